"""Sharing is an execution detail: every executor has the numbers and the gradients of plain rows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, BloomConfig, MambaConfig

from pivotrl.engine.executors import make_executor
from pivotrl.engine.executors.choosing import why_not
from pivotrl.engine.executors.split import SplitExecutor
from pivotrl.engine.items import Item
from pivotrl.engine.kernels import FlashCpu, Math
from pivotrl.engine.losses import clipped_policy_loss
from pivotrl.engine.objective import Batch, Objective
from pivotrl.engine.visibility import Sight
from pivotrl.protocols import UpdateOptions
from tiny_models import CACHE, SPLIT, VOCABULARY, make_model, random_items, weights_of


def run(executor, model, items, temperature=1.0):
    """(log-probabilities, entropies, gradients) of a weighted sum of log-probabilities."""
    model.zero_grad(set_to_none=True)
    weights_S = weights_of(items)
    scored = executor.score(items, temperature, lambda part: (weights_S[part.index_S] * part.logprobs_S).sum())
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return scored.logprobs_S, scored.entropy_S, gradients


def gap(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Largest difference of a gradient, relative to the largest gradient of the network."""
    assert found.keys() == expected.keys()
    scale = max(gradient.abs().max() for gradient in expected.values())
    return max(((found[name] - expected[name]).abs().max() / scale).item() for name in expected)


def executors(model):
    """One pass; the trunk first and branches in chunks; a checkpointed trunk; every prefix shared; almost none."""
    return [
        SplitExecutor(model, 4096),
        SplitExecutor(model, 40),
        SplitExecutor(model, 8),
        SplitExecutor(model, 4096, share_above=0),
        SplitExecutor(model, 40, share_above=0),
        SplitExecutor(model, 4096, share_above=200),
    ]


@pytest.mark.parametrize("family", SPLIT)
@pytest.mark.parametrize("seed", range(3))
def test_split_is_exact_in_double_precision(family, seed):
    model = make_model(family, torch.float64)
    items = random_items(seed)
    expected = run(make_executor("reference", model, 4096), model, items, temperature=0.7)
    for executor in executors(model):
        logprobs_S, entropy_S, gradients = run(executor, model, items, temperature=0.7)
        torch.testing.assert_close(logprobs_S, expected[0], rtol=0.0, atol=1e-12)
        torch.testing.assert_close(entropy_S, expected[1], rtol=0.0, atol=1e-5)
        assert gap(gradients, expected[2]) < 1e-6
    assert expected[0].std() > 0.5 or len(expected[0]) < 3  # far from uniform: a wrong mask or position would show


@pytest.mark.parametrize("family", SPLIT)
def test_split_is_exact_in_single_precision(family):
    model = make_model(family)
    for seed in range(10, 16):
        items = random_items(seed)
        expected = run(make_executor("reference", model, 4096), model, items)
        for executor in executors(model)[:3]:
            logprobs_S, _, gradients = run(executor, model, items)
            torch.testing.assert_close(logprobs_S, expected[0], rtol=0.0, atol=1e-4)
            assert gap(gradients, expected[2]) < 1e-4


@pytest.mark.parametrize("family", [*SPLIT, *CACHE])
def test_caches_continue_exactly(family):
    model = make_model(family, torch.float64)
    # Some families compute states or softmax in single precision whatever the model's.
    loose = family in CACHE and family != "lfm2"
    for seed in range(3):
        items = random_items(seed)
        expected = run(make_executor("reference", model, 4096), model, items)
        logprobs_S, _, gradients = run(make_executor("cache", model, 4096), model, items)
        torch.testing.assert_close(logprobs_S, expected[0], rtol=0.0, atol=1e-4 if loose else 1e-12)
        assert gap(gradients, expected[2]) < (1e-3 if loose else 1e-6)


@pytest.mark.parametrize("family", SPLIT)
def test_families_that_attend_are_split(family):
    assert make_executor("auto", make_model(family)).name == "split"


@pytest.mark.parametrize("family", CACHE)
def test_what_split_does_not_know_falls_back_with_a_reason(family, caplog):
    model = make_model(family)
    assert make_executor("auto", model).name == "cache"
    assert "no split executor" in caplog.text
    reason = why_not(make_executor("split", model), model)
    assert reason is not None and ("differ" in reason or "cannot be split" in reason or "gradient" in reason)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "dynamic", "factor": 2.0},
        {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "factor": 4.0},
    ],
)
def test_angles_that_depend_on_the_longest_sequence_are_not_shared(rope, caplog):
    """Beyond the original length a token's angles depend on what else is in the pass; the probe is too short to see."""
    settings = {"rope_theta": 1e4, "original_max_position_embeddings": 128, **rope}
    model = make_model("llama", rope_parameters=settings)
    assert make_executor("auto", model).name == "reference"
    assert f"{rope['rope_type']} rotary angles" in caplog.text
    gemma = make_model("gemma3")  # angles of its own for each kind of layer
    assert make_executor("auto", gemma).name == "split"


@pytest.mark.parametrize("config", [BloomConfig, MambaConfig])
def test_models_built_in_another_way_are_served_by_some_executor(config):
    """Layers under another name, biased attention, no attention at all: no fault, and the reference's numbers."""
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "n_head": 4}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config(**sizes, n_layer=2)).eval()
    executor = make_executor("auto", model)
    items = random_items(0)
    expected = make_executor("reference", model).score(items).logprobs_S
    torch.testing.assert_close(executor.score(items).logprobs_S, expected, rtol=0.0, atol=1e-3)


def test_attention_that_cannot_be_split_is_refused():
    """Stock attention would take a whole forest for one sequence, and nobody would notice."""
    model = make_model("llama")
    model.set_attn_implementation("sdpa")
    with pytest.raises(NotImplementedError, match="'sdpa' cannot be split"):
        SplitExecutor(model, 4096).score(random_items(0))


def test_the_probe_leaves_the_model_as_it_was():
    model = make_model("llama")
    names = [name for name, _ in model.named_parameters()][::2]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
        if name in names:
            parameter.grad = torch.ones_like(parameter)
    assert why_not(make_executor("split", model), model) is None
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (name in names)
        assert (parameter.grad is not None) == (name in names)
        assert parameter.grad is None or bool((parameter.grad == 1).all())


def test_bf16_is_no_further_from_fp32_than_naive_bf16():
    errors: dict[str, float] = {"reference": 0.0, "split": 0.0}
    for seed in range(8):
        exact, model = make_model("llama", seed=seed), make_model("llama", torch.bfloat16, seed=seed)
        items = random_items(100 + seed)
        expected = run(make_executor("reference", exact, 4096), exact, items)[2]
        norm = math.sqrt(sum(float(g.pow(2).sum()) for g in expected.values()))
        for name in errors:
            found = run(make_executor(name, model, 4096), model, items)[2]
            errors[name] += (
                math.sqrt(sum(float((found[k].float() - g).pow(2).sum()) for k, g in expected.items())) / norm
            )
    assert 0 < errors["split"] < 1.1 * errors["reference"]


@pytest.mark.parametrize("name", ["split", "cache", "reference"])
def test_an_empty_batch_has_no_numbers(name):
    executor = make_executor(name, make_model("llama"))
    assert len(executor.score([], loss=lambda part: part.logprobs_S.sum()).logprobs_S) == 0
    assert executor.num_computed == 0


# --- isolation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_tokens", [4096, 40])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
def test_a_branch_never_sees_its_neighbours(family, max_tokens):
    """Bit for bit: other tokens in one branch leave the log-probabilities of all others as they were."""
    model = make_model(family)
    trunk = [3 + (5 * i * i) % 61 for i in range(40)]
    items = [Item(trunk[:end], [[10 * k + end % 7 + i for i in range(6)] for k in range(1, 5)]) for end in (17, 40)]
    executor = SplitExecutor(model, max_tokens)
    before = executor.score(items).logprobs_S
    for number in range(8):
        place, branch = divmod(number, 4)
        completions = [list(c) for c in items[place].completions]
        completions[branch] = [completions[branch][0], *((t + 17) % VOCABULARY for t in completions[branch][1:])]
        changed = list(items)
        changed[place] = Item(items[place].prompt, completions)
        after = executor.score(changed).logprobs_S
        own = torch.zeros(48, dtype=torch.bool)
        own[6 * number : 6 * number + 6] = True
        assert torch.equal(after[~own], before[~own])
        assert not torch.equal(after[own], before[own])


def test_tokens_behind_the_last_active_pivot_are_not_computed():
    model = make_model("llama")
    trunk = [3 + (5 * i * i) % 61 for i in range(50)]
    executor = SplitExecutor(model, 4096, share_above=0)
    executor.score([Item(trunk[:end], [[7, 8, 9], [9, 8, 7]]) for end in (20, 30)])
    assert executor.num_computed == 30 + 2 * 2 * 2


def test_equal_completions_are_computed_once_and_count_twice():
    model = make_model("llama", torch.float64)
    items = [Item([3, 4, 5, 6] * 8, [[7, 8, 9, 10]] * 5)]
    executor = SplitExecutor(model, 4096)
    found = run(executor, model, items)
    assert executor.num_computed == 32 + 3
    assert gap(found[2], run(make_executor("reference", model), model, items)[2]) < 1e-6


# --- the update -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize("options", [{}, {"kl_coefficient": 0.3}, {"importance_cap": 1.2}, {"loss_level": "sequence"}])
def test_the_gradient_does_not_depend_on_cuts_or_order(options, epochs):
    model = make_model("llama", torch.float64)
    update = UpdateOptions(**options)
    items = random_items(7)
    generator = torch.Generator().manual_seed(0)
    num = sum(item.num_scored for item in items)
    sampled_S, reference_S = (-3 * torch.rand(num, generator=generator, dtype=torch.float64) for _ in range(2))
    advantages_S, weights_S = torch.randn(num, generator=generator), torch.full((num,), 1 / num)
    results = []
    for executor in (make_executor("reference", model, 1), *executors(model)[:3]):
        batch = Batch(items, advantages_S, weights_S, sampled_S)
        objective = Objective(batch, update, reference_S if update.kl_coefficient else None)
        for _ in range(epochs):
            model.zero_grad(set_to_none=True)
            metrics = objective.backward(executor)
        results.append((metrics, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}))
    for metrics, gradients in results[1:]:
        assert metrics == pytest.approx(results[0][0], abs=1e-5)
        assert gap(gradients, results[0][1]) < 1e-6


def test_importance_weights_multiply_the_gradient_and_stop_at_the_cap():
    """One token whose sampler gave it half (a tenth) of the policy's probability weighs twice (the cap)."""
    model = make_model("llama", torch.float64)
    items = [Item([5, 6, 7], [[9]])]
    norms = {}
    for name, factor in (("none", None), ("half", 0.5), ("tenth", 0.1)):
        logprob = make_executor("reference", model).score(items).logprobs_S
        sampled_S = logprob + (math.log(factor) if factor else 0.0)
        update = UpdateOptions(importance_cap=3.0 if factor else None)
        batch = Batch(items, torch.ones(1), torch.ones(1), sampled_S)
        model.zero_grad(set_to_none=True)
        Objective(batch, update, None).backward(SplitExecutor(model, 4096))
        norms[name] = sum(p.grad.norm().item() for p in model.parameters() if p.grad is not None)
    assert norms["half"] == pytest.approx(2 * norms["none"], rel=1e-5)
    assert norms["tenth"] == pytest.approx(3 * norms["none"], rel=1e-5)


def test_a_hundred_steps_end_at_the_same_weights():
    finals = []
    for name, max_tokens in (("reference", 4096), ("split", 4096), ("split", 40)):
        model = make_model("llama", torch.float64)
        executor = make_executor(name, model, max_tokens)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for step in range(100):
            items = random_items(step, longest=20)
            advantages_S = weights_of(items)
            old_S = executor.score(items).logprobs_S + 0.05 * torch.sin(torch.arange(len(advantages_S)))

            def loss(part, advantages_S=advantages_S, old_S=old_S):
                index = part.index_S
                uniform = torch.full((len(index),), 1 / len(advantages_S))
                return clipped_policy_loss(part.logprobs_S, old_S[index], advantages_S[index], uniform, 0.2, 0.2)[0]

            optimizer.zero_grad(set_to_none=True)
            executor.score(items, loss=loss)
            optimizer.step()
        finals.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    start = torch.cat([p.detach().flatten() for p in make_model("llama", torch.float64).parameters()])
    assert (finals[0] - start).abs().max() > 1e-2
    for final in finals[1:]:
        assert (final - finals[0]).abs().max() < 1e-4


class LittleMemory:
    """Stands for a device: a pass over more rows than fit runs out of memory."""

    def __init__(self, model, rows):
        self.failures = 0
        decoder = model.get_decoder()

        def check(module, args, kwargs):
            if kwargs["input_ids"].numel() > rows:
                self.failures += 1
                raise torch.OutOfMemoryError("out of memory")

        self.hook = decoder.register_forward_pre_hook(check, with_kwargs=True)


@pytest.mark.parametrize("name", ["split", "cache", "reference"])
def test_out_of_memory_leads_to_smaller_chunks_not_to_dropped_rows(name):
    model = make_model("llama", torch.float64)
    items = [Item([3, 4, 5, 6] * 5, [[7 + k, 8, 9, 10, 11, 12, 13] for k in range(20)])]
    expected = run(make_executor("reference", model, 4096), model, items)
    memory = LittleMemory(model, rows=60)
    executor = make_executor(name, model, 512)
    found = run(executor, model, items)
    assert memory.failures > 0 and executor.max_tokens < 512
    assert gap(found[2], expected[2]) < 1e-6
    torch.testing.assert_close(found[0], expected[0], rtol=0.0, atol=1e-12)
    failures = memory.failures
    run(executor, model, items)
    assert memory.failures == failures  # the size that fits is kept


def test_the_cache_executor_shares_a_trunk_that_is_larger_than_its_budget():
    """Branches beside it are what is bounded: 60 tokens hold three of them, so that four share a trunk."""
    model = make_model("llama")
    items = [Item([(5 * i * i) % 61 + 3 for i in range(200)], [[3 + b + i for i in range(20)] for b in range(9)])]
    executor = make_executor("cache", model, 60)
    found = executor.score(items)
    assert executor.num_computed == pytest.approx(3 * 200 + 9 * 20, abs=20)
    torch.testing.assert_close(
        found.logprobs_S, make_executor("reference", model).score(items).logprobs_S, rtol=0.0, atol=1e-4
    )


def test_memory_that_never_suffices_is_said():
    model = make_model("llama")
    LittleMemory(model, rows=5)
    with pytest.raises(torch.OutOfMemoryError):
        run(SplitExecutor(model, 512), model, [Item([3, 4, 5, 6] * 5, [[7, 8, 9]])])


# --- kernels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, 4)])
@pytest.mark.parametrize("heads", [(4, 4), (6, 2)])
def test_kernels_agree_with_autograd(dtype, causal, window, heads):
    """Parts of a row's keys, merged by log-sum-exp, against attention written out and differentiated by autograd."""
    generator = torch.Generator().manual_seed(1)
    rows, size = 13, 8
    columns = rows if causal else 21
    q, k, v = (
        torch.randn(2, h, n, size, generator=generator, dtype=dtype, requires_grad=True)
        for h, n in ((heads[0], rows), (heads[1], columns), (heads[1], columns))
    )
    wide_k, wide_v = (t.repeat_interleave(heads[0] // heads[1], dim=1) for t in (k, v))
    scores = q @ wide_k.transpose(-1, -2) * 0.3
    if causal:
        scores = scores.masked_fill(torch.ones(rows, rows, dtype=torch.bool).triu(1), -torch.inf)
    if window is not None:
        scores = scores.masked_fill(torch.ones(rows, rows, dtype=torch.bool).tril(-window), -torch.inf)
    sight = Sight(0.3, causal=causal, window=window)
    output = scores.softmax(-1) @ wide_v
    grad = torch.randn(output.shape, generator=generator, dtype=dtype)
    expected = torch.autograd.grad(output, (q, k, v), grad)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for kernel in (FlashCpu(), Math()):
        with torch.no_grad():
            found, lse = kernel.forward(q, k, v, sight)
            torch.testing.assert_close(found, output, rtol=0.0, atol=tolerance)
            torch.testing.assert_close(lse, scores.logsumexp(-1), rtol=0.0, atol=tolerance)
            gradients = kernel.backward(grad, q, k, v, found, lse, sight)
        for one, other in zip(gradients, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0.0, atol=10 * tolerance)


def test_a_row_that_sees_nothing_adds_nothing():
    q, k, v = (torch.randn(1, 2, n, 8, generator=torch.Generator().manual_seed(n)) for n in (3, 5, 5))
    mask = torch.zeros(3, 5)
    mask[1] = -torch.inf
    sight = Sight(1.0, mask=mask)
    for kernel in (FlashCpu(), Math()):
        output, lse = kernel.forward(q, k, v, sight)
        assert bool(lse[:, :, 1].isneginf().all()) and bool((output[:, :, 1] == 0).all())
        grads = kernel.backward(torch.ones_like(output), q, k, v, output, torch.zeros_like(lse), sight)
        assert all(bool(grad.isfinite().all()) for grad in grads)
        assert bool((grads[0][:, :, 1] == 0).all())


def test_keys_behind_a_length_are_not_seen():
    """Rows of a decode step have room for more keys than they have; what stands there is large."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, heads, n, 8, generator=generator) for heads, n in ((6, 4), (2, 9), (2, 9)))
    sight = Sight(0.3, length_B=torch.tensor([1, 5, 9], dtype=torch.int32))
    for number, length in enumerate((1, 5, 9)):
        k[number, :, length:], v[number, :, length:] = 1e9, 1e9
    for kernel in (FlashCpu(), Math()):
        output, lse = kernel.forward(q, k, v, sight)
        for number, length in enumerate((1, 5, 9)):
            one = slice(number, number + 1)
            expected = Math().forward(q[one], k[one, :, :length], v[one, :, :length], Sight(0.3))
            torch.testing.assert_close(output[one], expected[0], rtol=0.0, atol=1e-5)
            torch.testing.assert_close(lse[one], expected[1], rtol=0.0, atol=1e-5)
