"""The gradient of a batch does not depend on the number of processes."""

from __future__ import annotations

import random

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh

from crews import together
from pivotrl.engine.distributed.dealing import deal_examples
from pivotrl.engine.distributed.sharding import ShardOptions
from pivotrl.engine.distributed.site import Site
from pivotrl.engine.distributed.weights import ShardedWeights
from pivotrl.engine.executors import make_executor
from pivotrl.engine.objective import Batch, Objective, with_gradient
from pivotrl.engine.weights import Weights
from pivotrl.protocols import UpdateOptions
from pivotrl.protocols.tokens import Drawn, Example, token_weights
from tiny_models import VOCABULARY, make_model


def examples(num_trajectories: int, seed: int = 0) -> list[Example]:
    """Nested prompts of a few trajectories, with completions of different lengths and advantages of both signs."""
    generator = random.Random(seed)
    rows = []
    for trajectory in range(num_trajectories):
        trunk = [generator.randrange(3, VOCABULARY) for _ in range(generator.randint(20, 60))]
        for turn in sorted(generator.sample(range(5, len(trunk)), 2)):
            completions = [
                [generator.randrange(3, VOCABULARY) for _ in range(generator.randint(1, 9))] for _ in range(3)
            ]
            rows.append((f"t{trajectory}#{turn}", trunk[:turn], completions))
    weights = iter(token_weights([len(c) for *_, completions in rows for c in completions], "token"))
    return [
        Example(
            prompt,
            [Drawn(c, [-3.0] * len(c), True) for c in completions],
            [generator.choice([-1.0, 0.5, 1.5]) for _ in completions],
            [next(weights) for _ in completions],
            key,
        )
        for key, prompt, completions in rows
    ]


OPTIONS = UpdateOptions(kl_coefficient=0.1, importance_cap=None, num_epochs=1)


def weights_of(family, dtype, lora_rank):
    weights = Weights(
        make_model(family, dtype), trainable=True, lora_rank=lora_rank, lora_alpha=8, frozen_layers=0, seed=0
    )
    if lora_rank:  # an adapter starts as zero, and half of its gradient too
        generator = torch.Generator().manual_seed(1)
        for parameter in weights.trained().values():
            parameter.data = torch.randn(parameter.shape, generator=generator).to(dtype) * 0.1
    return weights


def alone(family, dtype, lora_rank, executor, num_trajectories):
    weights = weights_of(family, dtype, lora_rank)
    reference = make_executor(executor, weights.frozen_copy or weights.model, 64)
    batch = Batch.of(examples(num_trajectories), OPTIONS)
    with weights.reference():
        reference_S = reference.score(batch.items).logprobs_S
    Objective(batch, OPTIONS, reference_S).backward(make_executor(executor, weights.model, 64))
    return {name: p.grad for name, p in weights.trained().items()}


def spread(crew, family, dtype, lora_rank, executor, num_trajectories):
    whole = weights_of(family, dtype, lora_rank)
    ours = make_executor(executor, whole.model, 64)
    reference = make_executor(executor, whole.frozen_copy or whole.model, 64)
    weights = ShardedWeights(whole, ShardOptions(init_device_mesh("cpu", (crew.size,))))
    site = Site(crew, weights, ours, reference, {})
    share = deal_examples(with_gradient(examples(num_trajectories), OPTIONS), crew.size, 32)[crew.rank]
    batch = Batch.of(share, OPTIONS) if share else None
    reference_S = site._score_reference(batch, 1.0)
    site.gradient(Objective(batch, OPTIONS, reference_S) if batch else None)
    shard = next(iter(weights.trained().values())).to_local()
    gradients = {name: p.grad.full_tensor() for name, p in weights.trained().items()}
    return gradients, len(share), shard.numel()


def gap(found, expected):
    assert found.keys() == expected.keys()
    scale = max(gradient.abs().max() for gradient in expected.values())
    return max(((found[name] - expected[name]).abs().max() / scale).item() for name in expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
@pytest.mark.parametrize(
    ("family", "executor", "lora_rank"),
    [("qwen3", "split", 0), ("llama", "split", 4), ("falcon-h1", "cache", 0), ("qwen2", "reference", 4)],
)
def test_two_processes_have_the_gradient_of_one(family, executor, lora_rank, dtype, tolerance):
    setting = (family, dtype, lora_rank, executor, 3)
    expected = alone(*setting)
    for gradients, num_examples, _ in together(2, spread, *setting):
        assert gap(gradients, expected) < tolerance
        assert num_examples
