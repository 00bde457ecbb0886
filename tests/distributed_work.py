"""What tests let processes do: batches, and a learner in shards."""

from __future__ import annotations

import random

import torch
from torch.distributed.device_mesh import init_device_mesh

from pivotrl.engine.distributed.dealing import deal_examples
from pivotrl.engine.distributed.sharding import ShardOptions
from pivotrl.engine.distributed.sites import Lesson, Site
from pivotrl.engine.distributed.weights import ShardedWeights
from pivotrl.engine.executors import make_executor
from pivotrl.engine.objective import with_gradient
from pivotrl.engine.weights import Weights
from pivotrl.protocols import UpdateOptions
from pivotrl.protocols.tokens import Drawn, Example, token_weights
from tiny_models import VOCABULARY, make_model

OPTIONS = UpdateOptions(kl_coefficient=0.1, importance_cap=None, num_epochs=1)


def make_examples(num_trajectories: int, seed: int = 0) -> list[Example]:
    """Two nested prompts of each trajectory, with completions of different lengths and advantages of both signs."""
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


def make_weights(family: str, dtype: torch.dtype, lora_rank: int) -> Weights:
    weights = Weights(
        make_model(family, dtype), trainable=True, lora_rank=lora_rank, lora_alpha=8, frozen_layers=0, seed=0
    )
    if lora_rank:  # an adapter starts as zero, and so does half of its gradient
        generator = torch.Generator().manual_seed(1)
        for parameter in weights.trained().values():
            parameter.data = torch.randn(parameter.shape, generator=generator).to(parameter.dtype) * 0.1
    return weights


def make_site(crew, family: str, dtype: torch.dtype, lora_rank: int, executor: str, **options) -> Site:
    """Every process makes it at the same time."""
    whole = make_weights(family, dtype, lora_rank)
    ours = make_executor(executor, whole.model, 64)
    reference = make_executor(executor, whole.frozen_copy or whole.model, 64)
    weights = ShardedWeights(whole, ShardOptions(init_device_mesh("cpu", (crew.size,)), torch.device("cpu"), **options))
    return Site(crew, weights, ours, reference, {})


def share_of(crew, examples: list[Example], options: UpdateOptions = OPTIONS) -> list[Example]:
    return deal_examples(with_gradient(examples, options), crew.size, 32)[crew.rank]


def lesson(learning_rate: float = 1e-3, options: UpdateOptions = OPTIONS) -> Lesson:
    return Lesson(learning_rate, options, [5, 6, 7])


def whole_state(site: Site) -> dict[str, torch.Tensor]:
    """Weights and moments, whole in every process."""
    found = {}
    for name, parameter in site.weights.trained().items():
        found[name] = parameter.detach().full_tensor().clone()
        for kind, value in site.optimizer.state[parameter].items():
            found[f"{name}|{kind}"] = value.clone() if kind == "step" else value.full_tensor()
    return found
