"""Scores with intervals, and paired changes, computed from the stored items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pivotrl.evaluation.answers import FINER
from pivotrl.intervals import Estimate, PairedDifference, clustered_mean, paired_difference
from pivotrl.records import AnswerResult, EpisodeResult, ProgressResult, RetentionResult, TurnResult

R = TypeVar("R", TurnResult, EpisodeResult)


def turn_accuracy(results: Sequence[TurnResult]) -> Estimate | None:
    """Mean reward over held-out turns with a verdict, clustered by task; None if there are none."""
    scored = [(result.reward, result.task_id) for result in results if result.reward is not None]
    return clustered_mean([r for r, _ in scored], [t for _, t in scored]) if scored else None


def episode_success(results: Sequence[EpisodeResult]) -> Estimate | None:
    """Mean reward over episodes with a reward, clustered by task; None if there are none."""
    scored = [(result.reward, result.cluster) for result in results if result.reward is not None]
    return clustered_mean([r for r, _ in scored], [t for _, t in scored]) if scored else None


def own_history_progress(results: Sequence[ProgressResult]) -> Estimate | None:
    """Mean share of turns done, over walks whose end is known, clustered by task; None if there are none."""
    known = [(result.progress, result.task_id) for result in results if result.progress is not None]
    return clustered_mean([p for p, _ in known], [t for _, t in known]) if known else None


def own_history_success(results: Sequence[ProgressResult]) -> Estimate | None:
    """Share of walks that reached the end, as :func:`own_history_progress`."""
    known = [(result.progress, result.task_id) for result in results if result.progress is not None]
    return clustered_mean([float(p == 1.0) for p, _ in known], [t for _, t in known]) if known else None


def compare(
    before: Sequence[Any],
    after: Sequence[Any],
    key: Callable[[Any], str],
    value: Callable[[Any], float | None],
    cluster: Callable[[Any], str],
    bounded: bool = True,
) -> PairedDifference | None:
    """Paired difference over the items that both sides scored; None if there are none."""
    first = {key(item): value(item) for item in before}
    pairs = [
        (first[key(i)], value(i), cluster(i)) for i in after if first.get(key(i)) is not None and value(i) is not None
    ]
    if not pairs:
        return None
    old, new, clusters = zip(*pairs, strict=True)
    return paired_difference(list(old), list(new), list(clusters), bounded=bounded)


def compare_turns(before: Sequence[TurnResult], after: Sequence[TurnResult]) -> PairedDifference | None:
    """Paired by turn and temperature, or by turn alone if an older version, which did not note temperatures, measured
    one side."""
    before, after = _comparable(before, after)
    return compare(before, after, lambda r: r.key, lambda r: r.reward, lambda r: r.task_id)


def compare_progress(before: Sequence[ProgressResult], after: Sequence[ProgressResult]) -> PairedDifference | None:
    """Change of the share of turns done, paired by walk."""
    return compare(before, after, lambda r: r.key, lambda r: r.progress, lambda r: r.task_id)


def compare_episodes(before: Sequence[EpisodeResult], after: Sequence[EpisodeResult]) -> PairedDifference | None:
    """Paired by environment, task and number, or by task and number if an older version, which did not name
    environments, played one side. The same goes for temperatures."""
    if not all(result.environment for result in (*before, *after)):
        before, after = ([r.model_copy(update={"environment": ""}) for r in side] for side in (before, after))
    before, after = _comparable(before, after)
    return compare(before, after, lambda r: r.key, lambda r: r.reward, lambda r: r.cluster)


def compare_answers(before: Sequence[AnswerResult], after: Sequence[AnswerResult]) -> PairedDifference | None:
    """Paired by question."""
    return compare(before, after, lambda r: r.key, lambda r: r.reward, lambda r: r.item_id)


def compare_finer(before: Sequence[AnswerResult], after: Sequence[AnswerResult], name: str) -> PairedDifference | None:
    """Change of a finer measure of answers, paired by question; None for fewer than two."""
    if len(before) < 2:
        return None
    bounded = FINER[name][1].startswith("share")
    return compare(before, after, lambda r: r.key, lambda r: r.scores.get(name), lambda r: r.item_id, bounded=bounded)


def compare_retention(before: Sequence[RetentionResult], after: Sequence[RetentionResult]) -> PairedDifference | None:
    """Difference of the NLL per token in nats, paired by text; above 0 is forgetting."""
    if len(before) < 2:
        return None
    return compare(before, after, lambda r: r.item_id, lambda r: r.nll, lambda r: r.item_id, bounded=False)


def _comparable(before: Sequence[R], after: Sequence[R]) -> tuple[Sequence[R], Sequence[R]]:
    """The same results; without temperatures if one side did not note them."""
    if all(result.temperature is not None for result in (*before, *after)):
        return before, after
    bare = [[result.model_copy(update={"temperature": None}) for result in side] for side in (before, after)]
    return bare[0], bare[1]
