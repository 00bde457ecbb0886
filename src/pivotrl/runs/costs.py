"""The cost of a stage so far, finished or not: rollout turns, steps and seconds, added up from its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pivotrl.protocols import InputError
from pivotrl.records import EpisodeResult, Manifest, ProgressResult, SampleGroup, StepMetrics, TurnResult
from pivotrl.rollouts import rollout_turns
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
    found = list(RecordFile(directory / _groups_of(stage), SampleGroup))
    turns = RecordFile(directory / f"{stage}.turns.jsonl", TurnResult)
    walks = RecordFile(directory / f"{stage}.progress.jsonl", ProgressResult)
    played = (directory / f"{stage}.episodes.jsonl", directory / stage / "episodes.jsonl")
    episodes = [episode for path in played for episode in RecordFile(path, EpisodeResult)]
    return (
        rollout_turns(found)
        + sum(result.num_samples + result.num_continuation_turns for result in turns)
        + sum(walk.num_sampled + walk.num_continuation_turns for walk in walks)
        + sum(episode.num_turns for episode in episodes)
    )


def tokens_of(directory: Path, stage: str) -> int | None:
    """Tokens sampled by a stage so far, added up from its files; None if some are unknown: samples that were made
    elsewhere may come as text alone.

    Raises:
        ValueError: a file of the stage is damaged.
    """
    total = 0
    for group in RecordFile(directory / _groups_of(stage), SampleGroup):
        for completion in group.completions_G[group.num_taken :]:
            if completion.text and not completion.token_ids_T:
                return None
            total += len(completion.token_ids_T)
    played = (directory / f"{stage}.episodes.jsonl", directory / stage / "episodes.jsonl")
    return (
        total
        + sum(result.num_tokens for result in RecordFile(directory / f"{stage}.turns.jsonl", TurnResult))
        + sum(walk.num_tokens for walk in RecordFile(directory / f"{stage}.progress.jsonl", ProgressResult))
        + sum(episode.num_tokens for path in played for episode in RecordFile(path, EpisodeResult))
    )


def money_of(directory: Path, stage: str) -> float | None:
    """Money that a server took for the samples of a stage that are stored so far; None if no prices are known.

    Raises:
        ValueError: a file of the stage is damaged.
    """
    groups = RecordFile(directory / _groups_of(stage), SampleGroup)
    results = RecordFile(directory / f"{stage}.turns.jsonl", TurnResult)
    known = [record.cost for record in (*groups, *results) if record.cost is not None]
    return sum(known) if known else None


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
