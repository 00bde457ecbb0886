"""A batch may be cut anywhere: the gradients of its parts sum to the gradient of the whole."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from pivotrl import cut
from pivotrl.engine.executors import Executor, make_executor
from pivotrl.engine.objective import Batch, Objective
from pivotrl.policies.hf import Policy
from pivotrl.protocols import TrainingGroup, UpdateOptions
from pivotrl.protocols.tokens import Example, token_weights
from pivotrl.records import Completion, Sampling
from test_training import logs
from tiny import save_tiny_model

TURNS = cut(logs(4, 1))[0]


def _cut_to(completion: Completion, length: int) -> Completion:
    return completion.model_copy(
        update={"token_ids_T": completion.token_ids_T[:length], "logprobs_T": completion.logprobs_T[:length]}
    )


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """In double precision, away from its reference."""
    folder = save_tiny_model(tmp_path_factory.mktemp("tiny"))
    made = Policy(model=str(folder), lora_rank=0, dtype="float32", device="cpu")
    made.model.double()
    made.weights.frozen_copy.double()
    _shake(made.model, 0)
    return made


@torch.no_grad()
def _shake(model: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter += 0.02 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)


@pytest.fixture(scope="module")
def groups(policy: Policy) -> list[TrainingGroup]:
    """Of 1 to 12 tokens; some without advantage, one group without any."""
    generator, advantages = random.Random(0), ([1.0, -1.0, 0.0], [0.3, 0.0, -0.3], [0.0] * 3, [2.0, -0.5, -1.5])
    found = []
    for group, advantage in zip(policy.sample(TURNS, 3, Sampling(max_tokens=12)), advantages, strict=True):
        completions = [_cut_to(one, generator.choice([1, 2, 5, 12])) for one in group.completions_G]
        turn = next(turn for turn in TURNS if turn.id == group.turn_id)
        found.append(TrainingGroup(turn, completions, advantage, group.prompt_sha256))
    return found


def _parts(examples: Sequence[Example], number: int, seed: int) -> list[list[Example]]:
    """The completions dealt to so many parts of unequal size; a prompt may be in several."""
    places = [(i, g) for i, example in enumerate(examples) for g in range(len(example.completions_G))]
    random.Random(seed).shuffle(places)
    parts = []
    for low, high in zip([0, 2, 5][:number], [*[2, 5][: number - 1], len(places)], strict=True):
        mine = sorted(places[low:high])
        part = []
        for i, example in enumerate(examples):
            kept = [g for there, g in mine if there == i]
            fields = ("completions_G", "advantages_G", "weights_G")
            if kept:
                part.append(replace(example, **{f: [getattr(example, f)[g] for g in kept] for f in fields}))
        parts.append(part)
    return parts


def _gradient(
    policy: Policy, parts: Sequence[Sequence[Example]], options: UpdateOptions, executor: str
) -> tuple[float, dict[str, Tensor]]:
    """(loss, gradient of each parameter) summed over the parts, at weights other than those that the first pass fixes,
    so that ratios are not 1 and some are clipped."""
    model = policy.model
    own: Executor = make_executor(executor, model, 40)  # type: ignore[arg-type]
    objectives = []
    for part in parts:
        batch, reference_S = Batch.of(part, options), None
        if options.kl_coefficient:
            with policy.weights.reference() as reference:
                reference_S = make_executor("reference", reference).score(batch.items).logprobs_S
        objectives.append(Objective(batch, options, reference_S))
        objectives[-1].backward(own)
    kept = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    _shake(model, 1)
    model.zero_grad(set_to_none=True)
    rows = [objective.backward(own) for objective in objectives]
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(kept[name])
    assert options.objective == "likelihood" or any(row["ratio/clipped_fraction"] for row in rows)
    return sum(row["loss/total"] for row in rows), gradients


def _gap(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Largest difference, relative to the largest gradient."""
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    return max(float((found[name] - expected[name]).abs().max()) for name in expected) / scale


def _options(level: Any, beta: float, objective: Any = "policy_gradient") -> UpdateOptions:
    return UpdateOptions(loss_level=level, kl_coefficient=beta, objective=objective, importance_cap=2.0)


@pytest.mark.parametrize("executor", ["split", "reference"])
@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("beta", [0.0, 0.5])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_the_parts_of_a_batch_give_the_gradient_of_the_whole(
    policy: Policy, groups: list[TrainingGroup], level: str, beta: float, number: int, executor: str
) -> None:
    options, examples = _options(level, beta), policy.examples(groups, level)  # type: ignore[arg-type]
    loss, whole = _gradient(policy, [examples], options, executor)
    for seed in range(2):
        parts = _parts(examples, number, seed)
        found_loss, found = _gradient(policy, parts, options, executor)
        assert found_loss == pytest.approx(loss, abs=1e-7)
        assert _gap(found, whole) < 1e-6


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_so_do_the_parts_of_a_batch_to_imitate(policy: Policy, groups: list[TrainingGroup], level: str) -> None:
    options, examples = _options(level, 0.0, "likelihood"), policy.examples(groups, level)  # type: ignore[arg-type]
    _, whole = _gradient(policy, [examples], options, "split")
    _, found = _gradient(policy, _parts(examples, 3, 0), options, "split")
    assert _gap(found, whole) < 1e-6


@pytest.mark.parametrize("beta", [0.0, 0.5])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_parts_with_denominators_of_their_own_do_not(
    policy: Policy, groups: list[TrainingGroup], level: Any, beta: float
) -> None:
    """The twin: each part is weighted by itself, and the parts are averaged."""
    options, examples = _options(level, beta), policy.examples(groups, level)
    _, whole = _gradient(policy, [examples], options, "split")
    for number in (2, 3):
        parts = []
        for part in _parts(examples, number, 0):
            weights = iter(token_weights([len(c.token_ids_T) for each in part for c in each.completions_G], level))
            parts.append([replace(e, weights_G=[next(weights) / number for _ in e.completions_G]) for e in part])
        _, found = _gradient(policy, parts, options, "split")
        assert _gap(found, whole) > 0.05


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_the_weights_of_a_batch_sum_to_one_over_all_of_its_tokens(
    policy: Policy, groups: list[TrainingGroup], level: Any
) -> None:
    examples = policy.examples(groups, level)
    rows = [(len(c.token_ids_T), w) for e in examples for c, w in zip(e.completions_G, e.weights_G, strict=True)]
    assert sum(length * weight for length, weight in rows) == pytest.approx(1.0)
    assert len({weight for _, weight in rows}) == (1 if level == "token" else len({length for length, _ in rows}))


def test_a_group_of_another_rendering_is_refused(policy: Policy, groups: list[TrainingGroup]) -> None:
    with pytest.raises(ValueError, match="sampled from a different rendering"):
        policy.examples([replace(groups[0], prompt_sha256="0" * 32)], "token")
