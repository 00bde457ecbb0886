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
from pivotrl.runs.costs import Cost, cost_of
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import STAGES, known_stages, training_stage
from pivotrl.runs.manifest import manifest_path, read_manifest


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
class Training:
    """One training of the run, finished or not."""

    stage: str
    selection: str | None
    """Name of the selection it used; None for the unnamed one."""
    options: dict[str, Any]
    num_steps: int
    cost: Cost


@dataclass(frozen=True)
class Evaluation:
    """One evaluation, finished or not, and its difference from the one before training."""

    stage: str
    training: str | None
    """The training whose weights were measured; None before training."""
    finished: bool
    turns: Estimate | None
    episodes: Estimate | None
    turns_difference: PairedDifference | None
    episodes_difference: PairedDifference | None


@dataclass(frozen=True)
class Summary:
    directory: str
    complete: bool
    """False while a stage is missing; the report says so."""
    counts: dict[str, Any]
    comparisons: tuple[Comparison, ...]
    adjusted_p_values: dict[str, float]
    """Holm-adjusted over the comparisons in the task: turns and episodes."""
    breakdowns: tuple[Breakdown, ...]
    kl_to_reference: Estimate | None
    """Mean KL(policy || reference) per token on the retention texts, nats."""
    costs: tuple[Cost, ...]
    versions: dict[str, str]
    trainings: tuple[Training, ...] = ()
    """Every training, including named ones."""
    evaluations: tuple[Evaluation, ...] = ()
    """Every evaluation, whatever its name."""

    @property
    def total_rollout_turns(self) -> int:
        """The cost of training in rollout turns: profiling and every training, but not evaluation."""
        return sum(cost.rollout_turns for cost in self.costs if is_for_training(cost.stage))

    @property
    def training_seconds(self) -> float:
        return sum(cost.seconds for cost in self.costs if is_for_training(cost.stage))

    def as_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "total_rollout_turns": self.total_rollout_turns}


def is_for_training(stage: str) -> bool:
    """Whether a stage counts as a cost of training: profiling and every training do."""
    return stage in ("profile", "train") or stage.startswith("trainings/")


def read_manifests(directory: Path) -> dict[str, Manifest]:
    """The manifests found, by stage: the unnamed stages in order, then the named ones."""
    return {stage: read_manifest(manifest_path(directory, stage)) for stage in known_stages(directory)}


def summarise(directory: Path, files: RunFiles | None = None) -> Summary:
    """Read a run directory.

    Args:
        files: the files of the directory, if already open.

    Raises:
        InputError: the directory holds no run, or a file of a finished stage is damaged.
    """
    directory = Path(directory)
    manifests = read_manifests(directory)
    if not manifests:
        raise InputError(f"{directory} holds no run: there is no manifest in it")
    files = files or RunFiles(directory)
    for stage in (*STAGES, *manifests):
        files.verify_records(stage)
    comparisons = []
    sides = ("before", "after")
    turns: list[list[Any]] = [list(files.turn_results(name)) for name in sides]
    episodes: list[list[Any]] = [list(files.episode_results(name)) for name in sides]
    texts: list[list[Any]] = [list(files.retention_results(name)) for name in sides]
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
    costs = {stage: cost_of(directory, stage, manifest) for stage, manifest in manifests.items()}
    return Summary(
        directory=str(directory),
        complete=all(stage in manifests and manifests[stage].status == "complete" for stage in STAGES),
        counts={stage: manifest.counts for stage, manifest in manifests.items()},
        comparisons=tuple(comparisons),
        adjusted_p_values=holm(p_values) if p_values else {},
        breakdowns=_breakdowns(*episodes),
        kl_to_reference=_mean_kl(texts[1]),
        costs=tuple(costs.values()),
        trainings=tuple(
            Training(
                stage,
                manifest.options.get("selection"),
                manifest.options,
                len(files.metrics(stage)),
                costs[stage],
            )
            for stage, manifest in manifests.items()
            if stage == "train" or stage.startswith("trainings/")
        ),
        evaluations=tuple(
            _evaluation(files, stage, manifest, turns[0], episodes[0])
            for stage, manifest in manifests.items()
            if stage.startswith("evaluations/")
        ),
        versions=next(iter(manifests.values())).versions,
    )


def _evaluation(
    files: RunFiles,
    stage: str,
    manifest: Manifest,
    turns_before: Sequence[TurnResult],
    episodes_before: Sequence[EpisodeResult],
) -> Evaluation:
    name = stage.removeprefix("evaluations/")
    turns, episodes = list(files.turn_results(name)), list(files.episode_results(name))
    is_after = any(source.endswith("/metrics.jsonl") for source in manifest.inputs)
    training = training_stage(manifest.options.get("training")) if is_after else None
    return Evaluation(
        stage,
        training,
        manifest.status == "complete",
        turn_accuracy(turns),
        episode_success(episodes),
        compare_turns(turns_before, turns) if name != "before" else None,
        compare_episodes(episodes_before, episodes) if name != "before" else None,
    )


def _mean_nll(results: Sequence[RetentionResult]) -> Estimate | None:
    return _mean_of_texts([(r.nll, r.item_id) for r in results])


def _mean_kl(results: Sequence[RetentionResult]) -> Estimate | None:
    return _mean_of_texts([(r.kl, r.item_id) for r in results if r.kl is not None])


def _mean_of_texts(values: Sequence[tuple[float, str]]) -> Estimate | None:
    """None for fewer than two texts: one text gives no interval."""
    if len(values) < 2:
        return None
    return clustered_mean([value for value, _ in values], [item for _, item in values], bounded=False)


def _breakdowns(before: Sequence[EpisodeResult], after: Sequence[EpisodeResult]) -> tuple[Breakdown, ...]:
    """Episode success by environment and by every tag, where there is more than one value."""
    values: dict[tuple[str, str], tuple[list[EpisodeResult], list[EpisodeResult]]] = defaultdict(lambda: ([], []))
    for side, results in enumerate((before, after)):
        for result in results:
            played_in = {"environment": result.environment} if result.environment else {}
            for tag, value in {**played_in, **result.tags}.items():
                values[tag, value][side].append(result)
    tags = [tag for tag, _ in values]
    return tuple(
        Breakdown(tag, value, episode_success(old), episode_success(new))
        for (tag, value), (old, new) in sorted(values.items())
        if tags.count(tag) > 1
    )
