"""Measures a policy once: turns and episodes, greedily and at temperature 1, and texts outside the task."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pivotrl.evaluation import EvaluationOptions, evaluate_episodes, evaluate_retention, evaluate_turns
from pivotrl.options import AtLeast0, AtLeast1, check
from pivotrl.protocols import Environments, Policy, Turn, Verifier


@dataclass(frozen=True)
class Measuring:
    """How much is measured at every checkpoint.

    RL sharpens a policy, which lifts sampled turns more than greedy episodes, so turns and episodes are measured at
    both temperatures.
    """

    samples_per_turn: AtLeast0 = 4
    """Actions sampled at temperature 1 at each held-out turn; 0: only the greedy action is measured."""
    episodes_per_task: AtLeast0 = 1
    """Episodes at temperature 1 of each held-out task; 0: only the greedy episode is measured."""
    max_tokens: AtLeast1 = 256
    """Longest action, in tokens."""
    batch: AtLeast1 = 64
    """Turns or episodes that run together."""
    seed: int = 0
    """Seed of the samples."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class HeldOutItems:
    """What is measured, never trained on."""

    turns: Sequence[Turn] = ()
    verifier: Verifier | None = None
    environments: Mapping[str, Environments] = field(default_factory=dict)
    texts: Sequence[dict[str, str]] = ()
    """Reference texts outside the task, see :func:`pivotrl.evaluation.load_retention`."""


def measure(policy: Policy, items: HeldOutItems, folder: Path, options: Measuring) -> dict[str, dict[str, float]]:
    """Measure -> cluster -> mean. Items are stored in ``folder`` and not measured again.

    ``turns/greedy`` and ``turns/sampled`` per task, ``episodes/greedy`` and ``episodes/sampled`` per task, ``nll``
    and ``kl`` (to the policy before training) per text, in nats per token.
    """
    values: dict[str, dict[str, float]] = {}
    plain = EvaluationOptions(eval_max_tokens=options.max_tokens, eval_batch=options.batch, eval_seed=options.seed)
    if items.turns:
        assert items.verifier is not None
        asked = [("greedy", 0.0, 1), ("sampled", 1.0, options.samples_per_turn)]
        for name, temperature, count in asked:
            if count:
                chosen = _with(plain, turn_temperature=temperature, turn_samples=count)
                found = evaluate_turns(policy, items.turns, items.verifier, folder / f"turns_{name}.jsonl", chosen)
                values[f"turns/{name}"] = cluster_means((r.task_id, r.reward) for r in found)
    if items.environments:
        asked = [("greedy", 0.0, 1), ("sampled", 1.0, options.episodes_per_task)]
        for name, temperature, count in asked:
            if count:
                chosen = _with(plain, eval_temperature=temperature, episodes_per_task=count)
                played = evaluate_episodes(policy, items.environments, folder / f"episodes_{name}.jsonl", chosen)
                values[f"episodes/{name}"] = cluster_means((r.task_id, r.reward) for r in played)
    if items.texts:
        scored = evaluate_retention(policy, items.texts, folder / "texts.jsonl")
        values["nll"] = cluster_means((r.item_id, r.nll) for r in scored)
        values["kl"] = cluster_means((r.item_id, r.kl or 0.0) for r in scored)  # None before training, where it is 0
    return values


def _with(options: EvaluationOptions, **changes: float) -> EvaluationOptions:
    fields = {name: getattr(options, name) for name in options.__dataclass_fields__}
    return EvaluationOptions(**{**fields, **changes})


def cluster_means(rows: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    """Mean of each cluster over its items with a value."""
    found: dict[str, list[float]] = {}
    for cluster, value in rows:
        if value is not None:
            found.setdefault(cluster, []).append(value)
    return {cluster: statistics.fmean(values) for cluster, values in found.items()}
