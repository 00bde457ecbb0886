"""The sampler against generate(), against training and against itself."""

from __future__ import annotations

import random
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pivotrl.engine import token_choice
from pivotrl.engine.executors import make_executor
from pivotrl.engine.items import Item
from pivotrl.engine.sampling import draw, num_prefilled
from pivotrl.engine.split_attention import ForestPass
from pivotrl.engine.token_choice import choose, inverse_cdf
from pivotrl.records import Sampling
from tape import tape
from tiny_models import CACHE, VOCABULARY, make_model

STOP = frozenset({2})
FAMILIES = ("llama", "qwen3", "mistral, beyond its window", "gemma3", "qwen3 moe", "granite, scaled logits")
WAYS = ("split", "cache", "reference")
PAIRS = [*((family, "split") for family in FAMILIES), ("llama", "cache"), ("gemma3", "cache"), ("llama", "reference")]


@pytest.fixture(scope="module")
def models():
    return {name: make_model(name) for name in (*FAMILIES, *CACHE)}


@pytest.fixture(scope="module")
def llama(models):
    return models["llama"]


def prompts_of(seed, count=5):
    """Unrelated prompts of 1 to 23 tokens."""
    generator = random.Random(seed)
    lengths = [generator.choice([1, 2, 5, 11, 23]) for _ in range(count)]
    return [[generator.randrange(3, VOCABULARY) for _ in range(length)] for length in lengths]


def nested_prompts(seed):
    """Prefixes of one trajectory, two of them equal and two a token apart, beside an unrelated prompt."""
    generator = random.Random(seed)
    trunk = [generator.randrange(3, VOCABULARY) for _ in range(40)]
    return [trunk[:33], trunk[:12], trunk[:13], trunk[:33], trunk, [5, 9, 8], trunk[:1]]


@torch.no_grad()
def sample(model, prompts, num_samples=3, way="split", ids=None, stop=STOP, max_rows=64, **sampling):
    ids = ids or [f"log#{number}" for number in range(len(prompts))]
    options = Sampling(**{"max_tokens": 12, **sampling})
    return draw(model, prompts, ids, num_samples, options, stop, executor=way, max_rows=max_rows)


def ids_of(groups):
    return [[one.token_ids_T for one in group] for group in groups]


@pytest.mark.parametrize(("family", "way"), PAIRS)
def test_greedy_is_generate(models, family, way):
    model = models[family]
    prompts = [*prompts_of(0), *nested_prompts(0), [7]]
    drawn = sample(model, prompts, num_samples=2, temperature=0.0, max_tokens=30, way=way)
    for prompt, branches in zip(prompts, drawn, strict=True):
        expected = model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False, max_new_tokens=30
        )[0, len(prompt) :].tolist()
        for one in branches:
            assert one.token_ids_T == expected
            assert one.stopped == (expected[-1] in STOP)


@pytest.mark.parametrize("way", ["cache", "reference"])
@pytest.mark.parametrize("family", CACHE)
def test_states_and_sinks_are_sampled_through_the_models_own_cache(models, family, way):
    model, prompts = models[family], nested_prompts(1)
    drawn = sample(model, prompts, num_samples=3, way=way)
    items = [Item(prompt, [one.token_ids_T for one in group]) for prompt, group in zip(prompts, drawn, strict=True)]
    expected = make_executor("reference", model).score(items).logprobs_S
    sampled = torch.tensor([logprob for one in chain(*drawn) for logprob in one.logprobs_T])
    torch.testing.assert_close(sampled, expected, rtol=0.0, atol=1e-3)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize(("family", "way"), PAIRS)
def test_sampled_logprobs_are_those_of_training(models, family, temperature, way):
    model, prompts = models[family], [*prompts_of(1), *nested_prompts(1)]
    drawn = sample(model, prompts, num_samples=4, temperature=temperature, way=way, seed=1, max_tokens=40)
    items = [Item(prompt, [one.token_ids_T for one in group]) for prompt, group in zip(prompts, drawn, strict=True)]
    sampled = torch.tensor([logprob for one in chain(*drawn) for logprob in one.logprobs_T])
    for executor in ("reference", "split"):
        expected = make_executor(executor, model).score(items, temperature).logprobs_S
        torch.testing.assert_close(sampled, expected, rtol=0.0, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7, "top_p": 0.8}, {"top_k": 5}])
@pytest.mark.parametrize("family", FAMILIES)
def test_sharing_draws_the_same_tokens(models, family, options):
    model, prompts = models[family], [*prompts_of(2), *nested_prompts(2)]
    split, rows = (sample(model, prompts, 3, way, **options) for way in ("split", "cache"))
    for one, same in zip(chain(*split), chain(*rows), strict=True):
        assert (one.token_ids_T, one.stopped) == (same.token_ids_T, same.stopped)
        assert one.logprobs_T == pytest.approx(same.logprobs_T, abs=1e-4)
    assert any(len({tuple(one.token_ids_T) for one in group}) > 1 for group in split)


@pytest.mark.parametrize("way", WAYS)
def test_a_sample_depends_on_its_turn_and_number_alone(llama, way):
    prompts = [*prompts_of(3), *nested_prompts(3)]
    ids = [f"log#{number}" for number in range(len(prompts))]
    together = ids_of(sample(llama, prompts, 4, way, ids))
    order = random.Random(0).sample(range(len(prompts)), len(prompts))
    permuted = ids_of(sample(llama, [prompts[i] for i in order], 4, way, [ids[i] for i in order]))
    assert permuted == [together[i] for i in order]
    for i, prompt in enumerate(prompts):
        assert ids_of(sample(llama, [prompt], 2, way, [ids[i]]))[0] == together[i][:2]
    assert ids_of(sample(llama, prompts, 4, way, ids, max_rows=3)) == together
    (longer,) = ids_of(sample(llama, prompts[:1], 4, way, ids[:1], max_tokens=20))
    assert [tokens[:12] for tokens in longer] == together[0]
    assert ids_of(sample(llama, prompts, 4, way, ids, seed=1))[0] != together[0]


@pytest.mark.parametrize("way", WAYS)
def test_a_completion_ends_with_its_stop_token_or_at_the_limit(llama, way):
    stop = frozenset(range(2, 6))
    drawn = list(chain(*sample(llama, prompts_of(4), 8, way, stop=stop)))
    for one in drawn:
        assert one.stopped == (one.token_ids_T[-1] in stop)
        assert not stop & set(one.token_ids_T[:-1])
        assert len(one.token_ids_T) == len(one.logprobs_T) <= 12
        assert one.stopped or len(one.token_ids_T) == 12
    assert {one.stopped for one in drawn} == {True, False}
    never = sample(llama, prompts_of(4), 2, way, stop=frozenset())
    assert all(len(one.token_ids_T) == 12 and not one.stopped for one in chain(*never))


class Counted:
    """Counts the rows of every forward."""

    def __init__(self, model):
        self.rows = []
        self.hook = model.get_decoder().register_forward_pre_hook(
            lambda module, args, kwargs: self.rows.append(kwargs["input_ids"].numel()), with_kwargs=True
        )


def test_one_prefill_serves_all_turns_and_finished_branches_leave(llama):
    """48 prompt tokens for prompts of 141; and no row is computed for a branch long after it has stopped."""
    prompts, stop = nested_prompts(5), frozenset(range(2, 12))
    counted = Counted(llama)
    try:
        drawn = sample(llama, prompts, 8, stop=stop, max_tokens=40, max_rows=1000)
    finally:
        counted.hook.remove()
    prefill, steps = counted.rows[0], counted.rows[1:]
    assert prefill == len({tuple(prompt[: i + 1]) for prompt in prompts for i in range(len(prompt))})
    assert prefill == sum(num_prefilled(prompts, "split", 8)) < sum(map(len, prompts)) / 3
    for step, rows in enumerate(steps, start=1):
        growing = sum(len(one.token_ids_T) > step for one in chain(*drawn))
        assert growing <= rows <= growing / 0.8 + 1


def test_prefills_are_counted_as_each_way_computes_them():
    prompts = [[5, 6, 7], [5, 6], [9]]
    assert num_prefilled(prompts, "split", 4) == [1, 2, 1]
    assert num_prefilled(prompts, "cache", 4) == [3, 2, 1]
    assert num_prefilled(prompts, "reference", 4) == [12, 8, 4]


def test_sampled_tokens_follow_the_models_softmax(llama):
    """The first token of many samples, and the second given the most frequent first one."""
    prompt = prompts_of(5)[0]
    (drawn,) = sample(llama, [prompt], 3000, max_tokens=2, stop=frozenset(), max_rows=4000)
    first = np.array([one.token_ids_T[0] for one in drawn])
    check_distribution(first, softmax_after(llama, prompt))
    likely = int(np.bincount(first).argmax())
    second = np.array([one.token_ids_T[1] for one in drawn if one.token_ids_T[0] == likely])
    assert len(second) > 200
    check_distribution(second, softmax_after(llama, [*prompt, likely]))


@torch.no_grad()
def softmax_after(model, tokens):
    return torch.softmax(model(torch.tensor([tokens])).logits[0, -1].double(), dim=-1).numpy()


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
    sampling = Sampling(temperature=temperature, top_p=top_p)
    token_N, logprob_N = choose(torch.from_numpy(logits).expand(20_000, -1), uniform, sampling)
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
    token_N, logprob_N = choose(logits, torch.linspace(0.0, 1.0, 4001, dtype=torch.float64)[:-1], Sampling(top_p=top_p))
    assert set(token_N.tolist()) == kept
    mass = sum([0.125, 0.5, 0.125, 0.25][token] for token in kept)
    assert logprob_N.exp()[token_N == 1][0].item() == pytest.approx(0.5 / mass)


def test_the_extremes_of_the_uniform_choose_possible_tokens():
    logits = torch.tensor([[-torch.inf, 0.0, 1.0, -torch.inf]] * 2)
    token_N, logprob_N = choose(logits, torch.tensor([0.0, np.nextafter(1.0, 0.0)], dtype=torch.float64), Sampling())
    assert token_N.tolist() == [1, 2]
    assert torch.isfinite(logprob_N).all()


@given(
    st.integers(1, 1200),
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    st.sampled_from(["float32", "float64"]),
)
@settings(max_examples=200, deadline=None)
def test_the_entry_found_is_the_one_the_running_sum_crosses(size, seed, zeros, dtype):
    """Against numpy's running sum over all of them; entries of weight 0 are never found, at no uniform number."""
    generator = np.random.default_rng(seed)
    weights = generator.exponential(size=size).astype(dtype) ** 3
    weights[generator.random(size) < zeros] = 0.0
    weights[generator.integers(size)] = 1e-3
    share = np.cumsum(weights, dtype=np.float64)
    edges = share / share[-1]
    uniform = np.concatenate([generator.random(20), [0.0, 1 - 2**-53], edges[edges < 1], np.nextafter(edges, 0.0)])
    rows = torch.from_numpy(weights).expand(len(uniform), -1)
    found = inverse_cdf(rows, torch.from_numpy(uniform)).numpy()
    assert (weights[found] > 0).all()
    above, below = edges[found], np.concatenate([[0.0], edges])[found]
    assert (above > uniform - 1e-12).all() and (below < uniform + 1e-12).all()


def test_greedy_choices_report_the_probability_at_temperature_one():
    logits = torch.tensor([[0.0, 3.0, 1.0]])
    token_N, logprob_N = choose(logits, torch.tensor([0.99]), Sampling(temperature=0.0, top_p=0.5))
    assert token_N.tolist() == [1]
    assert logprob_N.tolist() == pytest.approx(torch.log_softmax(logits, dim=-1)[0, 1:2].tolist())


@pytest.mark.parametrize(
    ("top_k", "kept"), [(1, {1}), (2, {1, 3}), (3, {0, 1, 3}), (4, {0, 1, 2, 3}), (9, {0, 1, 2, 3})]
)
def test_top_k_keeps_the_k_most_probable(top_k, kept):
    logits = torch.log(torch.tensor([0.13, 0.5, 0.12, 0.25])).expand(4000, -1)
    uniform = torch.linspace(0.0, 1.0, 4001, dtype=torch.float64)[:-1]
    token_N, logprob_N = choose(logits, uniform, Sampling(top_k=top_k))
    assert set(token_N.tolist()) == kept
    mass = sum([0.13, 0.5, 0.12, 0.25][token] for token in kept)
    assert logprob_N.exp()[token_N == 1][0].item() == pytest.approx(0.5 / mass)


@pytest.mark.parametrize("way", ["split", "cache", "reference"])
def test_a_draw_keeps_nothing_for_a_backward(llama, way):
    """Though the weights ask for gradients: a graph over all steps would hold gigabytes."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t.detach(), lambda t: t):
        draw(llama, [[3, 4, 5, 6]], ["t"], 2, Sampling(max_tokens=4), frozenset(), executor=way)
    assert not kept and any(parameter.requires_grad for parameter in llama.parameters())


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_tokens_chosen_in_blocks_are_those_chosen_at_once(temperature, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    logits, uniform = torch.randn(7, 30, generator=generator), torch.rand(7, generator=generator)
    whole = choose(logits, uniform, Sampling(temperature=temperature))
    monkeypatch.setattr(token_choice, "_LOGITS_AT_ONCE", 60)
    for one, other in zip(choose(logits, uniform, Sampling(temperature=temperature)), whole, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("capture", [None, tape])
def test_when_memory_runs_out_fewer_branches_decode_together(llama, capture):
    """Every sample once, the same ones; a single branch that does not fit is an error."""
    prompts, sampling = [list(range(3, 20)), list(range(3, 12))], Sampling(max_tokens=12)

    def sample():
        return draw(llama, prompts, ["a", "b"], 10, sampling, frozenset({2}), capture=capture)

    expected = sample()
    widest, fits = [], 3

    def check(module, args, kwargs):
        if len(kwargs["forest_pass"].input_ids_T) > fits and not isinstance(kwargs["forest_pass"], ForestPass):
            raise torch.OutOfMemoryError("out of memory")
        if not isinstance(kwargs["forest_pass"], ForestPass):
            widest.append(len(kwargs["forest_pass"].input_ids_T))

    hook = llama.get_decoder().register_forward_pre_hook(check, with_kwargs=True)
    try:
        found = sample()
        assert max(widest) <= 3
        fits = 0
        with pytest.raises(torch.OutOfMemoryError):
            sample()
    finally:
        hook.remove()
    for group, other in zip(found, expected, strict=True):
        assert [one.token_ids_T for one in group] == [one.token_ids_T for one in other]
