"""Sharing prompts changes nothing: packs against padded rows, the sampler against generate() and against itself."""

import random
from itertools import chain

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from pivotrl.engine.attention import NAME
from pivotrl.engine.loading import can_isolate_branches
from pivotrl.engine.packing import PackItem, pack, padded_logits, scored_logits, split_by_size
from pivotrl.engine.sampling import choose, draw
from pivotrl.records import Sampling

VOCABULARY = 64
CPU = torch.device("cpu")
STOP = frozenset({2})
ARCHITECTURES = {"llama": (LlamaConfig, {}), "qwen2": (Qwen2Config, {}), "qwen3": (Qwen3Config, {"head_dim": 8})}


SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,  # far from uniform outputs, so that a wrong mask or position shows
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def make_model(architecture, dtype=torch.float32):
    config_class, options = ARCHITECTURES[architecture]
    torch.manual_seed(0)
    config = config_class(**SIZES, **options)
    return AutoModelForCausalLM.from_config(config, attn_implementation=NAME).to(dtype).eval()


@pytest.fixture(scope="module")
def models():
    return {name: make_model(name) for name in ARCHITECTURES}


@pytest.fixture(scope="module")
def llama(models):
    return models["llama"]


def random_tokens(generator, longest):
    length = generator.choice([1, 1, generator.randint(1, longest)])
    return [generator.randrange(3, VOCABULARY) for _ in range(length)]


def random_forest(seed):
    """One to four prompts of 1 to 24 tokens with one to five completions of 1 to 9 tokens each."""
    generator = random.Random(seed)
    return [
        PackItem(random_tokens(generator, 24), [random_tokens(generator, 9) for _ in range(generator.randint(1, 5))])
        for _ in range(generator.randint(1, 4))
    ]


def packed_logprobs(model, items):
    """Log-probability of each completion token [S], in item, completion, token order."""
    packed = pack(items, CPU)
    return torch.log_softmax(scored_logits(model, packed), dim=-1).gather(-1, packed.targets_S[:, None])[:, 0]


def row_logprobs(model, items):
    targets = torch.tensor([token for item in items for completion in item.completions for token in completion])
    logits = padded_logits(model, items, 0, CPU)
    return torch.log_softmax(logits, dim=-1).gather(-1, targets[:, None])[:, 0]


# --- packs ------------------------------------------------------------------------------------------------------------


def test_a_pack_by_hand():
    packed = pack([PackItem([10, 11], [[20], [21, 22]]), PackItem([12], [[23]])], CPU)
    assert packed.input_ids_T.tolist() == [10, 11, 20, 21, 22, 12, 23]
    assert packed.position_ids_T.tolist() == [0, 1, 2, 2, 3, 0, 1]
    assert packed.scored_S.tolist() == [1, 1, 3, 5]
    assert packed.targets_S.tolist() == [20, 21, 22, 23]
    assert packed.sequence_S.tolist() == [0, 1, 1, 2]
    assert packed.num_sequences == 3
    rows = ["1000000", "1100000", "1110000", "1101000", "1101100", "0000010", "0000011"]
    assert packed.mask_TT.int().tolist() == [[int(digit) for digit in row] for row in rows]


@pytest.mark.parametrize("items", [[PackItem([], [[1]])], [PackItem([1], [[2], []])]])
def test_empty_prompts_and_completions_are_refused(items):
    with pytest.raises(ValueError, match="at least one token"):
        pack(items, CPU)


def test_batches_keep_the_order_and_the_size():
    assert split_by_size([3, 4, 5, 20, 1, 1], 10) == [[0, 1], [2], [3], [4, 5]]
    assert split_by_size([], 10) == []
    sizes = [random.Random(seed).randint(1, 30) for seed in range(50)]
    batches = split_by_size(sizes, 40)
    assert [index for batch in batches for index in batch] == list(range(50))
    assert all(sum(sizes[i] for i in batch) <= 40 for batch in batches)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("seed", range(12))
def test_packs_score_like_padded_rows(models, architecture, seed):
    items = random_forest(seed)
    with torch.no_grad():
        packed, rows = packed_logprobs(models[architecture], items), row_logprobs(models[architecture], items)
    torch.testing.assert_close(packed, rows, rtol=0.0, atol=1e-5)
    assert len(rows) < 2 or rows.std() > 0.05  # the model is not uniform, so a wrong mask or position would show


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packs_score_like_padded_rows_in_double_precision(architecture):
    model = make_model(architecture, torch.float64)
    with torch.no_grad():
        for seed in range(5):
            items = random_forest(seed)
            torch.testing.assert_close(packed_logprobs(model, items), row_logprobs(model, items), rtol=0.0, atol=2e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("seed", range(4))
def test_packs_have_the_gradients_of_padded_rows(models, architecture, seed):
    model, items = models[architecture], random_forest(100 + seed)
    gradients = []
    for logprobs_of in (packed_logprobs, row_logprobs):
        model.zero_grad()
        logprobs = logprobs_of(model, items)
        weights = torch.linspace(-1.0, 2.0, len(logprobs))
        (weights * logprobs).sum().backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    model.zero_grad(set_to_none=True)
    packed, rows = gradients
    assert packed.keys() == rows.keys()
    scale = max(gradient.abs().max() for gradient in rows.values())
    for name, expected in rows.items():
        assert (packed[name] - expected).abs().max() < 1e-5 * scale, name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_completion_never_sees_its_neighbours(models, architecture):
    """Bit for bit: other tokens in one branch, or in another prompt, leave all else as it was."""
    model, generator = models[architecture], random.Random(3)
    items = [PackItem([token] * 7, [random_tokens(generator, 6) for _ in range(4)]) for token in (8, 9)]
    with torch.no_grad():
        before = packed_logprobs(model, items)
        sequence_S = pack(items, CPU).sequence_S
        for number in range(8):
            prompt, completions = items[number // 4].prompt, list(items[number // 4].completions)
            completions[number % 4] = [(token + 17) % VOCABULARY for token in completions[number % 4]]
            changed = list(items)
            changed[number // 4] = PackItem(prompt, completions)
            after = packed_logprobs(model, changed)
            others = sequence_S != number
            assert torch.equal(after[others], before[others])
            assert not torch.equal(after[~others], before[~others])
        moved = packed_logprobs(model, [PackItem([5] * 7, items[0].completions), items[1]])
        second = sequence_S >= 4
        assert torch.equal(moved[second], before[second])
        assert not torch.equal(moved[~second], before[~second])


# --- the sampler ------------------------------------------------------------------------------------------------------


def prompts_of(seed, count=5):
    generator = random.Random(seed)
    lengths = [generator.choice([1, 2, 5, 11, 23]) for _ in range(count)]
    return [[generator.randrange(3, VOCABULARY) for _ in range(length)] for length in lengths]


@torch.no_grad()
def sample(model, prompts, num_samples=3, shared=True, ids=None, stop=STOP, **sampling):
    ids = ids or [f"log#{number}" for number in range(len(prompts))]
    return draw(model, prompts, ids, num_samples, Sampling(**{"max_tokens": 12, **sampling}), stop, shared)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_is_generate(models, architecture, shared):
    model, prompts = models[architecture], [*prompts_of(0), [7]]
    drawn = sample(model, prompts, num_samples=2, temperature=0.0, max_tokens=30, shared=shared)
    for prompt, branches in zip(prompts, drawn, strict=True):
        expected = model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False, max_new_tokens=30
        )[0, len(prompt) :].tolist()
        for one in branches:
            assert one.token_ids_T == expected
            assert one.stopped == (expected[-1] in STOP)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sampled_logprobs_are_those_of_training(models, architecture, temperature, shared):
    """What the sampler says a token's probability was is what the packed pass computes for it."""
    model, prompts = models[architecture], prompts_of(1)
    drawn = sample(model, prompts, num_samples=4, temperature=temperature, shared=shared, seed=1)
    completions = [[one.token_ids_T for one in branches] for branches in drawn]
    packed = pack([PackItem(*item) for item in zip(prompts, completions, strict=True)], CPU)
    with torch.no_grad():
        logprobs_SV = torch.log_softmax(scored_logits(model, packed) / temperature, dim=-1)
    expected = logprobs_SV.gather(-1, packed.targets_S[:, None])[:, 0]
    sampled = torch.tensor([logprob for branches in drawn for d in branches for logprob in d.logprobs_T])
    torch.testing.assert_close(sampled, expected, rtol=0.0, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7, "top_p": 0.8}])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sharing_the_prompt_draws_the_same_tokens(models, architecture, options):
    model, prompts = models[architecture], prompts_of(2)
    shared, plain = (sample(model, prompts, 5, shared, **options) for shared in (True, False))
    for one, other in zip(chain(*shared), chain(*plain), strict=True):
        assert (one.token_ids_T, one.stopped) == (other.token_ids_T, other.stopped)
        assert one.logprobs_T == pytest.approx(other.logprobs_T, abs=1e-4)
    assert len({tuple(d.token_ids_T) for d in shared[0]}) > 1


@pytest.mark.parametrize("shared", [True, False])
def test_a_sample_depends_on_its_turn_and_number_alone(llama, shared):
    prompts = prompts_of(3)
    ids = [f"log#{number}" for number in range(len(prompts))]
    together = sample(llama, prompts, 4, shared, ids)
    order = [3, 0, 4, 1, 2]
    permuted = sample(llama, [prompts[i] for i in order], 4, shared, [ids[i] for i in order])
    for place, i in enumerate(order):
        assert [d.token_ids_T for d in permuted[place]] == [d.token_ids_T for d in together[i]]
    for i, prompt in enumerate(prompts):
        (alone,) = sample(llama, [prompt], 2, shared, [ids[i]])
        assert [d.token_ids_T for d in alone] == [d.token_ids_T for d in together[i][:2]]
    (longer,) = sample(llama, prompts[:1], 4, shared, ids[:1], max_tokens=20)
    for one, other in zip(longer, together[0], strict=True):
        assert one.token_ids_T[:12] == other.token_ids_T
    other_seed = sample(llama, prompts, 4, shared, ids, seed=1)
    assert [d.token_ids_T for d in other_seed[0]] != [d.token_ids_T for d in together[0]]


@pytest.mark.parametrize("shared", [True, False])
def test_a_completion_ends_with_its_stop_token_or_at_the_limit(llama, shared):
    stop = frozenset(range(2, 6))
    drawn = list(chain(*sample(llama, prompts_of(4), 8, shared, stop=stop)))
    for one in drawn:
        assert one.stopped == (one.token_ids_T[-1] in stop)
        assert not stop & set(one.token_ids_T[:-1])
        assert len(one.token_ids_T) == len(one.logprobs_T) <= 12
        assert one.stopped or len(one.token_ids_T) == 12
    assert {one.stopped for one in drawn} == {True, False}
    never = sample(llama, prompts_of(4), 2, shared, stop=frozenset())
    assert all(len(one.token_ids_T) == 12 and not one.stopped for one in chain(*never))


def test_sampled_first_tokens_follow_the_models_softmax(llama):
    prompt = prompts_of(5)[0]
    (drawn,) = sample(llama, [prompt], 3000, max_tokens=1)
    with torch.no_grad():
        probabilities = torch.softmax(llama(torch.tensor([prompt])).logits[0, -1].double(), dim=-1).numpy()
    check_distribution(np.array([d.token_ids_T[0] for d in drawn]), probabilities)


def test_rows_sample_what_no_mask_can_isolate():
    """Where packing is off (a window shorter than the prompt), the plain way must draw from the model itself."""
    torch.manual_seed(0)
    config = MistralConfig(**{**SIZES, "sliding_window": 8})
    model, prompt = AutoModelForCausalLM.from_config(config, attn_implementation=NAME).eval(), list(range(3, 23))
    assert not can_isolate_branches(model, len(prompt))
    (drawn,) = sample(model, [prompt], shared=False)
    with torch.no_grad():
        expected = row_logprobs(model, [PackItem(prompt, [one.token_ids_T for one in drawn])])
    sampled = torch.tensor([logprob for one in drawn for logprob in one.logprobs_T])
    torch.testing.assert_close(sampled, expected, rtol=0.0, atol=1e-4)


# --- choosing a token -------------------------------------------------------------------------------------------------


def check_distribution(tokens, probabilities):
    """Chi-square with cells of at least five expected draws."""
    counts = np.bincount(tokens, minlength=len(probabilities))
    assert (counts[probabilities == 0.0] == 0).all()
    order = np.argsort(probabilities)
    cell = np.searchsorted(np.cumsum(probabilities[order]) * len(tokens), np.arange(5.0, len(tokens), 5.0))
    edges = np.unique(np.concatenate([[0], cell + 1]))
    edges = edges[edges < len(order)]
    observed, expected = (np.add.reduceat(values[order], edges) for values in (counts, probabilities))
    assert len(observed) > 3
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3


def nucleus(logits, temperature, top_p):
    """Plain numpy: the fewest best tokens that reach ``top_p``, renormalised."""
    scaled = logits.astype(np.float64) / temperature
    probabilities = np.exp(scaled - scaled.max())
    probabilities /= probabilities.sum()
    order = np.argsort(-probabilities, kind="stable")
    kept = order[: np.searchsorted(probabilities[order].cumsum(), top_p) + 1]
    truncated = np.zeros_like(probabilities)
    truncated[kept] = probabilities[kept]
    return truncated / truncated.sum()


@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.5, 0.05])
@pytest.mark.parametrize("temperature", [1.0, 0.3, 2.0])
def test_choices_follow_the_truncated_softmax(temperature, top_p):
    generator = np.random.default_rng(1)
    logits = (2.0 * generator.normal(size=40)).astype(np.float32)
    uniform = torch.from_numpy(generator.random(20_000))
    token_N, logprob_N = choose(torch.from_numpy(logits).expand(20_000, -1), uniform, temperature, top_p)
    expected = nucleus(logits, temperature, top_p) if top_p < 1.0 else nucleus(logits, temperature, 2.0)
    assert set(token_N.tolist()) <= set(np.flatnonzero(expected).tolist())
    np.testing.assert_allclose(logprob_N.exp().numpy(), expected[token_N.numpy()], rtol=1e-5)
    if (expected > 0).sum() > 6:
        check_distribution(token_N.numpy(), expected)


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.05, {1}), (0.5, {1}), (0.51, {1, 3}), (0.75, {1, 3}), (0.76, {0, 1, 3}), (1.0, {0, 1, 2, 3})]
)
def test_the_token_that_crosses_top_p_stays_in(top_p, kept):
    """Probabilities 1/8, 1/2, 1/8, 1/4 are exact; of the two equal ones the first stays."""
    logits = torch.log(torch.tensor([0.125, 0.5, 0.125, 0.25])).expand(4000, -1)
    token_N, logprob_N = choose(logits, torch.linspace(0.0, 1.0, 4001, dtype=torch.float64)[:-1], 1.0, top_p)
    assert set(token_N.tolist()) == kept
    mass = sum([0.125, 0.5, 0.125, 0.25][token] for token in kept)
    assert logprob_N.exp()[token_N == 1][0].item() == pytest.approx(0.5 / mass)


def test_the_extremes_of_the_uniform_choose_possible_tokens():
    logits = torch.tensor([[-torch.inf, 0.0, 1.0, -torch.inf]] * 2)
    token_N, logprob_N = choose(logits, torch.tensor([0.0, np.nextafter(1.0, 0.0)], dtype=torch.float64), 1.0, 1.0)
    assert token_N.tolist() == [1, 2]
    assert torch.isfinite(logprob_N).all()


def test_greedy_choices_report_the_probability_at_temperature_one():
    logits = torch.tensor([[0.0, 3.0, 1.0]])
    token_N, logprob_N = choose(logits, torch.tensor([0.99]), 0.0, 0.5)
    assert token_N.tolist() == [1]
    assert logprob_N.tolist() == pytest.approx(torch.log_softmax(logits, dim=-1)[0, 1:2].tolist())
