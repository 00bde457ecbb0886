"""The numbers of a run, computed from its files. The report, the terminal table and ``--json`` all show these."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pivotrl.evaluation import (
    compare_episodes,
    compare_retention,
    compare_turns,
    episode_success,
    turn_accuracy,
)
from pivotrl.intervals import Estimate, PairedDifference, clustered_mean, holm
from pivotrl.protocols import InputError
from pivotrl.records import EpisodeResult, Manifest, RetentionResult, TurnResult
from pivotrl.store import read_manifest, read_records


@dataclass(frozen=True)
class Comparison:
    """One measurement before and after training, on the same items."""

    name: str
    unit: str
    before: Estimate
    after: Estimate
    difference: PairedDifference
    higher_is_better: bool = True


@dataclass(frozen=True)
class Breakdown:
    """Episode success within one group of tasks (a difficulty)."""

    tag: str
    value: str
    before: Estimate | None
    after: Estimate | None


@dataclass(frozen=True)
class Cost:
    """Sampled actions (rollout turns) and seconds by stage; profiling is counted."""

    stage: str
    rollout_turns: int
    seconds: float


@dataclass(frozen=True)
class Summary:
    directory: str
    complete: bool
    """False while a stage is missing; the report then says so."""
    counts: dict[str, Any]
    comparisons: tuple[Comparison, ...]
    adjusted_p_values: dict[str, float]
    """Holm-adjusted over the comparisons in the task: turns and episodes."""
    breakdowns: tuple[Breakdown, ...]
    kl_to_reference: Estimate | None
    """Mean KL(policy || reference) per token on the retention texts, nats."""
    costs: tuple[Cost, ...]
    versions: dict[str, str]

    @property
    def total_rollout_turns(self) -> int:
        """What training cost in rollout turns: profiling and training, evaluation left out."""
        return sum(cost.rollout_turns for cost in self.costs if cost.stage in ("profile", "train"))

    def as_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "total_rollout_turns": self.total_rollout_turns}


STAGES = ("read", "profile", "select", "evaluations/before", "train", "evaluations/after")


def read_manifests(directory: Path) -> dict[str, Manifest]:
    """The manifests found, by stage."""
    return {
        stage: read_manifest(directory / f"{stage}.manifest.json")
        for stage in STAGES
        if (directory / f"{stage}.manifest.json").is_file()
    }


def _results(directory: Path, name: str, kind: str, model: Any) -> list[Any]:
    path = directory / "evaluations" / f"{name}.{kind}.jsonl"
    return read_records(path, model) if path.is_file() else []


def summarise(directory: Path) -> Summary:
    """Read a run directory.

    Raises:
        InputError: it holds no run.
    """
    directory = Path(directory)
    manifests = read_manifests(directory)
    if not manifests:
        raise InputError(f"{directory} holds no run: there is no manifest in it")
    comparisons = []
    turns = [_results(directory, name, "turns", TurnResult) for name in ("before", "after")]
    episodes = [_results(directory, name, "episodes", EpisodeResult) for name in ("before", "after")]
    texts = [_results(directory, name, "retention", RetentionResult) for name in ("before", "after")]
    for name, unit, (old, new), estimate, compare, better in (
        ("held-out turns", "share of actions passed", turns, turn_accuracy, compare_turns, True),
        ("held-out episodes", "share solved", episodes, episode_success, compare_episodes, True),
        ("retention", "NLL per token, nats", texts, _mean_nll, compare_retention, False),
    ):
        before, after = estimate(old), estimate(new)
        difference = compare(old, new) if before is not None and after is not None else None
        if before is not None and after is not None and difference is not None:
            comparisons.append(Comparison(name, unit, before, after, difference, better))
    p_values = {c.name: c.difference.p_value for c in comparisons if c.higher_is_better}
    return Summary(
        directory=str(directory),
        complete=all(stage in manifests and manifests[stage].status == "complete" for stage in STAGES),
        counts={stage: manifest.counts for stage, manifest in manifests.items()},
        comparisons=tuple(comparisons),
        adjusted_p_values=holm(p_values) if p_values else {},
        breakdowns=_breakdowns(*episodes),
        kl_to_reference=_mean_kl(texts[1]),
        costs=tuple(Cost(stage, m.num_rollout_turns, m.wall_seconds) for stage, m in manifests.items()),
        versions=next(iter(manifests.values())).versions,
    )


def _mean_nll(results: Sequence[RetentionResult]) -> Estimate | None:
    return _mean_of_texts([(r.nll, r.item_id) for r in results])


def _mean_kl(results: Sequence[RetentionResult]) -> Estimate | None:
    return _mean_of_texts([(r.kl, r.item_id) for r in results if r.kl is not None])


def _mean_of_texts(values: Sequence[tuple[float, str]]) -> Estimate | None:
    """None below two texts: one text gives no interval."""
    if len(values) < 2:
        return None
    return clustered_mean([value for value, _ in values], [item for _, item in values], bounded=False)


def _breakdowns(before: Sequence[EpisodeResult], after: Sequence[EpisodeResult]) -> tuple[Breakdown, ...]:
    """Episode success by every tag that takes more than one value."""
    values: dict[tuple[str, str], tuple[list[EpisodeResult], list[EpisodeResult]]] = defaultdict(lambda: ([], []))
    for side, results in enumerate((before, after)):
        for result in results:
            for tag, value in result.tags.items():
                values[tag, value][side].append(result)
    tags = [tag for tag, _ in values]
    return tuple(
        Breakdown(tag, value, episode_success(old), episode_success(new))
        for (tag, value), (old, new) in sorted(values.items())
        if tags.count(tag) > 1
    )
