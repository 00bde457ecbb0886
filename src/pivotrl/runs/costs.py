"""The cost of a stage so far, finished or not: rollout turns, steps and seconds, added up from its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pivotrl.protocols import InputError
from pivotrl.records import (
    AnswerResult,
    EpisodeResult,
    LostTry,
    Manifest,
    ProgressResult,
    SampleGroup,
    StepMetrics,
    TrialResult,
    TurnResult,
)
from pivotrl.rollouts import lost_path, rollout_turns
from pivotrl.runs.manifest import find_manifest
from pivotrl.runs.stage import seconds_spent
from pivotrl.storage.record_files import RecordFile, counted


@dataclass(frozen=True)
class Cost:
    """Sampled actions (rollout turns) and seconds of a stage; profiling is counted."""

    stage: str
    rollout_turns: int
    seconds: float
    finished: bool = True
    """If False, the numbers are the cost so far."""


def cost_of(directory: Path, stage: str, manifest: Manifest) -> Cost:
    """Raises:
    ValueError: a file of an unfinished stage is damaged.
    """
    if manifest.status == "complete":
        return Cost(stage, manifest.num_rollout_turns, manifest.wall_seconds)
    return Cost(stage, _bought(directory, stage), seconds_spent(directory, stage, manifest), finished=False)


def _bought(directory: Path, stage: str) -> int:
    """Rollout turns in the files of a stage; those of its checks are known only at its end."""
    files = _files(directory, stage)
    return (
        rollout_turns(files.groups)
        + sum(result.num_samples + result.num_continuation_turns for result in files.turns)
        + sum(walk.num_sampled + walk.num_continuation_turns for walk in files.walks)
        + sum(episode.num_turns for episode in files.episodes)
        + sum(answer.num_tokens > 0 for answer in files.answers)
        + sum(trial.num_turns or 0 for trial in files.trials)
    )


def tokens_of(directory: Path, stage: str) -> int | None:
    """Tokens sampled by a stage so far, added up from its files, lost tries included; None if some are unknown: samples
    that were made elsewhere may come as text alone.

    Raises:
        ValueError: a file of the stage is damaged.
    """
    files = _files(directory, stage)
    drawn = [group.num_sampled_tokens for group in files.groups]
    known = [count for count in drawn if count is not None]
    if (
        len(known) < len(drawn)
        or any(result.text and not result.num_tokens for result in files.turns)
        or any(trial.num_tokens is None for trial in files.trials)
    ):
        return None
    return (
        sum(known)
        + sum(result.num_tokens for result in files.turns)
        + sum(walk.num_tokens for walk in files.walks)
        + sum(episode.num_tokens for episode in files.episodes)
        + sum(answer.num_tokens for answer in files.answers)
        + sum(one.num_tokens for one in files.lost)
        + sum(trial.num_tokens or 0 for trial in files.trials)
    )


def money_of(directory: Path, stage: str) -> float | None:
    """Money that a server took for the samples of a stage that are stored so far, and for tries without samples; None
    if no prices are known.

    Raises:
        ValueError: a file of the stage is damaged.
    """
    files = _files(directory, stage)
    costs = [
        *(group.cost for group in files.groups),
        *(result.cost for result in files.turns),
        *(walk.cost for walk in files.walks),
        *(episode.cost for episode in files.episodes),
        *(answer.cost for answer in files.answers),
        *(one.cost for one in files.lost),
    ]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known else None


class _Files(NamedTuple):
    """What a stage has sampled so far."""

    groups: Sequence[SampleGroup]
    turns: Sequence[TurnResult]
    walks: Sequence[ProgressResult]
    episodes: Sequence[EpisodeResult]
    answers: Sequence[AnswerResult]
    lost: Sequence[LostTry]
    trials: Sequence[TrialResult]


def _files(directory: Path, stage: str) -> _Files:
    groups, turns = directory / _groups_of(stage), directory / f"{stage}.turns.jsonl"
    played = (directory / f"{stage}.episodes.jsonl", directory / stage / "episodes.jsonl")
    return _Files(
        list(RecordFile(groups, SampleGroup)),
        list(RecordFile(turns, TurnResult)),
        list(RecordFile(directory / f"{stage}.progress.jsonl", ProgressResult)),
        [episode for path in played for episode in RecordFile(path, EpisodeResult)],
        list(RecordFile(directory / f"{stage}.answers.jsonl", AnswerResult)),
        [one for path in (groups, turns) for one in RecordFile(lost_path(path), LostTry)],
        list(RecordFile(directory / f"{stage}.trials.jsonl", TrialResult)),
    )


def _groups_of(stage: str) -> str:
    return {"profile": "profiles.jsonl"}.get(stage, f"{stage}/groups.jsonl")


def describe_cost(directory: Path, stage: str) -> str:
    """``train (3 steps, 192 rollout turns, 5 s)``; unreadable parts are called unknown."""
    try:
        manifest = find_manifest(directory, stage)
        if manifest is None:
            return stage
        cost = cost_of(directory, stage, manifest)
        steps = len(RecordFile(directory / stage / "metrics.jsonl", StepMetrics))
    except (InputError, ValueError):
        return f"{stage} (damaged, cost unknown)"
    parts = [counted(steps, "step")] if steps else []
    parts += [counted(cost.rollout_turns, "rollout turn")] if cost.rollout_turns else []
    return f"{stage} ({', '.join([*parts, f'{cost.seconds:,.0f} s'])})"
