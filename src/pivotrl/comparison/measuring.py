"""Measures a policy once: turns and episodes, greedily and at temperature 1, and texts outside the task."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pivotrl.comparison.holding import held
from pivotrl.evaluation import (
    EvaluationOptions,
    evaluate_answers,
    evaluate_episodes,
    evaluate_progress,
    evaluate_retention,
    evaluate_turns,
)
from pivotrl.evaluation.divergence import can_score, draw_reference, task_kl
from pivotrl.evaluation.questions import Question, text_turns
from pivotrl.options import AtLeast1, check
from pivotrl.protocols import Environments, Policy, Turn, Verifier

_AT = {0.0: "greedy", 1.0: "sampled"}


@dataclass(frozen=True)
class Measuring:
    """How much is measured at every checkpoint.

    RL sharpens a policy, which lifts sampled turns more than greedy episodes, so turns and episodes are measured at
    both temperatures.
    """

    samples_per_turn: AtLeast1 = 4
    """Actions sampled at temperature 1 at each held-out turn."""
    episodes_per_task: AtLeast1 = 1
    """Episodes at temperature 1 of each held-out task."""
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
    walked: Sequence[Turn] = ()
    """All turns of the trajectories along which the policy walks with its own history."""
    environments: Mapping[str, Environments] = field(default_factory=dict)
    texts: Sequence[dict[str, str]] = ()
    """Reference texts outside the task, see :func:`pivotrl.evaluation.load_retention`."""
    questions: Sequence[Question] = ()
    """Questions outside the task, see :mod:`pivotrl.evaluation.questions`."""
    answer_verifier: Verifier | None = None


def measure(
    policy: Policy, items: HeldOutItems, folder: Path, options: Measuring, drawn: Path
) -> dict[str, dict[str, float]]:
    """Measure -> cluster -> mean. Items are stored in ``folder`` and not measured again.

    ``turns/greedy``, ``turns/sampled``, ``episodes/greedy``, ``episodes/sampled`` and ``progress/greedy``
    (:func:`pivotrl.evaluation.evaluate_progress`) per task; ``nll`` per text, in nats per token; ``answers`` per
    question, 1 if the greedy answer is right; ``kl/tasks`` and ``kl/answers``, the forward KL(before training ||
    policy) at held-out turns and at questions, in nats per action.

    Args:
        drawn: folder of the actions that were drawn before training, shared by all trials.
    """
    values: dict[str, dict[str, float]] = {}
    asked = EvaluationOptions(
        eval_temperatures=tuple(_AT),
        turn_samples=options.samples_per_turn,
        episodes_per_task=options.episodes_per_task,
        eval_max_tokens=options.max_tokens,
        eval_batch=options.batch,
        eval_seed=options.seed,
    )
    questions = text_turns(items.questions)
    greedy = EvaluationOptions(eval_max_tokens=options.max_tokens, eval_batch=options.batch)
    if items.turns:
        assert items.verifier is not None
        found = evaluate_turns(policy, items.turns, items.verifier, folder / "turns.jsonl", asked)
        for at, name in _AT.items():
            values[f"turns/{name}"] = cluster_means((r.task_id, r.reward) for r in found if r.temperature == at)
    if items.walked:
        assert items.verifier is not None
        walks = evaluate_progress(policy, items.walked, items.verifier, folder / "progress.jsonl", greedy)
        values["progress/greedy"] = cluster_means((walk.task_id, walk.progress) for walk in walks)
    if items.environments:
        played = evaluate_episodes(policy, items.environments, folder / "episodes.jsonl", asked)
        for at, name in _AT.items():
            values[f"episodes/{name}"] = cluster_means((r.task_id, r.reward) for r in played if r.temperature == at)
    if items.texts:
        scored = evaluate_retention(policy, items.texts, folder / "texts.jsonl")
        values["nll"] = cluster_means((r.item_id, r.nll) for r in scored)
    if items.questions:
        assert items.answer_verifier is not None
        answered = evaluate_answers(policy, items.questions, items.answer_verifier, folder / "answers.jsonl", greedy)
        values["answers"] = cluster_means((r.item_id, r.reward) for r in answered)
    for name, turns, count in (("tasks", items.turns, options.samples_per_turn), ("answers", questions, 1)):
        if turns and can_score(policy):
            with held(drawn):
                before = draw_reference(policy.reference, turns, count, drawn / f"{name}.jsonl", greedy)
            moved = task_kl(policy, turns, before, options.batch)
            values[f"kl/{name}"] = cluster_means((r.task_id, r.kl) for r in moved)
    return values


def cluster_means(rows: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    """Mean of each cluster over its items with a value."""
    found: dict[str, list[float]] = {}
    for cluster, value in rows:
        if value is not None:
            found.setdefault(cluster, []).append(value)
    return {cluster: statistics.fmean(values) for cluster, values in found.items()}
