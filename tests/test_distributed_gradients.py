"""The gradient of a batch does not depend on the number of processes."""

from __future__ import annotations

import pytest
import torch

from crews import together
from distributed_work import OPTIONS, make_examples, make_site, make_weights, share_of
from pivotrl.engine.executors import make_executor
from pivotrl.engine.objective import Batch, Objective

SETTINGS = [
    ("qwen3", "split", 0),
    ("llama", "split", 4),
    ("qwen3 moe", "split", 0),
    ("falcon-h1", "cache", 0),
    ("lfm2", "cache", 4),
    ("qwen2", "reference", 0),
    ("llama", "reference", 4),
]
"""(Model, executor, rank of the adapter). The chunks are small: trunks are kept, and checkpointed layer by layer."""
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-4}


def alone(family, executor, lora_rank, dtype):
    weights = make_weights(family, dtype, lora_rank)
    reference = make_executor(executor, weights.frozen_copy or weights.model, 64)
    batch = Batch.of(make_examples(3), OPTIONS)
    with weights.reference():
        reference_S = reference.score(batch.items).logprobs_S
    Objective(batch, OPTIONS, reference_S).backward(make_executor(executor, weights.model, 64))
    return {name: p.grad for name, p in weights.trained().items()}


def in_shards(crew, settings, **options):
    """The gradients of each setting, the number of examples of this process, and the share of the weights it holds."""
    found = []
    for family, executor, lora_rank, dtype in settings:
        site = make_site(crew, family, dtype, lora_rank, executor, **options)
        share = share_of(crew, make_examples(3))
        batch = Batch.of(share, OPTIONS) if share else None
        reference_S = site._score_reference(batch, 1.0)
        site.gradient(Objective(batch, OPTIONS, reference_S) if batch else None)
        trained = site.weights.trained().values()
        held = sum(p.to_local().numel() for p in trained) / sum(p.numel() for p in trained)
        gradients = {name: p.grad.full_tensor() for name, p in site.weights.trained().items()}
        found.append((gradients, len(share), held))
    return found


def gap(found, expected):
    assert found.keys() == expected.keys()
    scale = max(gradient.abs().max() for gradient in expected.values())
    return max(((found[name] - expected[name]).abs().max() / scale).item() for name in expected)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(
    "num_processes", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(4, marks=pytest.mark.slow)]
)
def test_any_number_of_processes_has_the_gradient_of_one(num_processes, dtype):
    settings = [(*setting, dtype) for setting in (SETTINGS if num_processes != 2 else SETTINGS[:4])]
    answers = together(num_processes, in_shards, settings)
    for number, setting in enumerate(settings):
        expected = alone(*setting)
        for answer in answers:
            gradients, _, held = answer[number]
            assert gap(gradients, expected) < TOLERANCES[dtype], setting
            assert held < 1.3 / num_processes
    # Of four processes one has nothing to do for three trajectories, and joins in all the same.
    assert sum(answer[0][1] == 0 for answer in answers) == max(0, num_processes - 3)


def in_half_precision(crew):
    setting = ("qwen3", "split", 0, torch.float32)
    gradients, _, _ = in_shards(crew, [setting], compute_dtype=torch.bfloat16)[0]
    offloaded, _, _ = in_shards(crew, [setting], offload=True)[0]
    adapter, _, _ = in_shards(crew, [("llama", "split", 4, torch.bfloat16)])[0]
    return gradients, offloaded, adapter


def test_passes_in_half_precision_and_shards_elsewhere_give_gradients_in_single_precision():
    expected, of_adapter = alone("qwen3", "split", 0, torch.float32), alone("llama", "split", 4, torch.bfloat16)
    for gradients, offloaded, adapter in together(2, in_half_precision):
        assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}
        assert 1e-4 < gap(gradients, expected) < 0.05
        assert gap(offloaded, expected) < 1e-4
        # A model in half precision with its adapter in single precision, which is what GPUs train by default.
        assert {gradient.dtype for gradient in adapter.values()} == {p.dtype for p in of_adapter.values()}
        assert gap(adapter, of_adapter) < 0.05


class Short:
    """An executor that runs out of memory in its first call, half way through."""

    def __init__(self, executor):
        self._executor, self.calls = executor, 0
        self.max_tokens, self.num_computed = executor.max_tokens, 0

    def score(self, items, temperature=1.0, loss=None):
        self.calls += 1
        if self.calls == 1:
            self._executor.score(items[:1], temperature, lambda scored: scored.logprobs_S.sum())
            raise torch.OutOfMemoryError
        return self._executor.score(items, temperature, loss)

    def take_less(self):
        return self._executor.take_less()


def out_of_memory(crew):
    found = []
    for options in ({}, {"compute_dtype": torch.bfloat16}):
        gradients = []
        for is_short in (False, True):
            site = make_site(crew, "llama", torch.float32, 0, "split", **options)
            if is_short and crew.rank == 1:
                site.executor = Short(site.executor)
            batch = Batch.of(share_of(crew, make_examples(3)), OPTIONS)
            reference_S = site._score_reference(batch, 1.0)
            site.gradient(Objective(batch, OPTIONS, reference_S))
            gradients.append({name: p.grad.full_tensor() for name, p in site.weights.trained().items()})
        found.append(gradients)
    return found


def test_all_start_again_when_one_runs_out_of_memory():
    for exact, half in together(2, out_of_memory):
        assert gap(exact[1], exact[0]) < 1e-5
        assert gap(half[1], half[0]) < 0.05
