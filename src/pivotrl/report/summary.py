"""The numbers of a run, computed from its files. The report, the terminal table and ``--json`` all show these."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pivotrl.evaluation import episode_success
from pivotrl.intervals import Estimate, PairedDifference, holm
from pivotrl.protocols import InputError
from pivotrl.records import EpisodeResult, Manifest
from pivotrl.report.benches import Bench, benches_of, is_bench_alone
from pivotrl.report.evaluations import DETAIL, IN_TASK, Score, mean_kl, scores_of
from pivotrl.report.pooling import Pooled, measured_step, measured_training, pooled_scores
from pivotrl.runs.costs import Cost, cost_of
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import PILOT, STAGES, known_stages
from pivotrl.runs.manifest import manifest_path, read_manifest
from pivotrl.runs.status import stages_needed


@dataclass(frozen=True)
class Comparison:
    """One measurement before and after training, on the same items."""

    name: str
    unit: str
    before: Estimate
    after: Estimate
    difference: PairedDifference
    higher_is_better: bool = True
    kind: str = ""
    """What is measured; the name adds the temperature where there are several."""
    temperature: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", self.kind or self.name)

    @property
    def is_detail(self) -> bool:
        """Whether it is part of another comparison: one source of questions outside the task, or a finer measure."""
        return self.kind.startswith(DETAIL)


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
    scores: tuple[Score, ...]
    step: int | None = None
    """Steps of training behind a checkpoint; None for another."""


@dataclass(frozen=True)
class Summary:
    directory: str
    complete: bool
    """False while a stage is missing; the report says so."""
    counts: dict[str, Any]
    comparisons: tuple[Comparison, ...]
    adjusted_p_values: dict[str, float]
    """Holm-adjusted over the comparisons in the task: turns, walks and episodes."""
    breakdowns: tuple[Breakdown, ...]
    kl_to_reference: Estimate | None
    """Mean KL(policy || reference) per token on the retention texts, nats."""
    costs: tuple[Cost, ...]
    versions: dict[str, str]
    trainings: tuple[Training, ...] = ()
    """Every training, including named ones."""
    evaluations: tuple[Evaluation, ...] = ()
    """Every evaluation, whatever its name."""
    pooled: tuple[Pooled, ...] = ()
    """Means over trainings that differ in their seed alone."""
    benches: tuple[Bench, ...] = ()
    """Benchmarks that the policy and others played."""
    price_per_hour: float | None = None
    """Of the machine, in any currency; None: not stated."""

    @property
    def total_rollout_turns(self) -> int:
        """The cost of training in rollout turns: profiling and every training, but not evaluation."""
        return sum(cost.rollout_turns for cost in self.costs if is_for_training(cost.stage))

    @property
    def training_seconds(self) -> float:
        return sum(cost.seconds for cost in self.costs if is_for_training(cost.stage))

    def as_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "total_rollout_turns": self.total_rollout_turns}

    def money(self, seconds: float) -> str:
        """What so much time costs at the stated price: ``0.23``."""
        assert self.price_per_hour is not None
        return f"{seconds / 3600 * self.price_per_hour:,.2f}"


def is_for_training(stage: str) -> bool:
    """Whether a stage counts as a cost of training: profiling, its pilot and every training do."""
    return stage in (PILOT, "profile", "train") or stage.startswith("trainings/")


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
    first = manifests.get("evaluations/before")
    evaluations = tuple(
        _evaluation(files, stage, manifest, first)
        for stage, manifest in manifests.items()
        if stage.startswith("evaluations/")
    )
    scores = {evaluation.stage: evaluation.scores for evaluation in evaluations}
    before = {score.told: score.estimate for score in scores.get("evaluations/before", ())}
    comparisons = [
        Comparison(
            score.name,
            score.unit,
            before[score.told],
            score.estimate,
            score.difference,
            score.higher_is_better,
            score.kind,
            score.temperature,
        )
        for score in scores.get("evaluations/after", ())
        if score.difference is not None and score.told in before
    ]
    p_values = {c.name: c.difference.p_value for c in comparisons if c.kind in IN_TASK}
    costs = {stage: cost_of(directory, stage, manifest) for stage, manifest in manifests.items()}
    return Summary(
        directory=str(directory),
        complete=all(
            stage in manifests and manifests[stage].status == "complete"
            for stage in ([] if is_bench_alone(manifests) else stages_needed(manifests))
        ),
        counts={stage: manifest.counts for stage, manifest in manifests.items()},
        comparisons=tuple(comparisons),
        adjusted_p_values=holm(p_values) if p_values else {},
        breakdowns=_breakdowns(*(_coolest(files.episode_results(name)) for name in ("before", "after"))),
        kl_to_reference=mean_kl(list(files.retention_results("after"))),
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
        evaluations=evaluations,
        benches=benches_of(files, manifests),
        pooled=pooled_scores(files, manifests),
        versions=next(iter(manifests.values())).versions,
    )


def _evaluation(files: RunFiles, stage: str, manifest: Manifest, before: Manifest | None) -> Evaluation:
    name = stage.removeprefix("evaluations/")
    training, step = measured_training(manifest), measured_step(manifest)
    return Evaluation(stage, training, manifest.status == "complete", scores_of(files, name, manifest, before), step)


def _coolest(results: Iterable[EpisodeResult]) -> list[EpisodeResult]:
    """Those of the lowest temperature."""
    listed = list(results)
    lowest = min((result.temperature or 0.0 for result in listed), default=0.0)
    return [result for result in listed if (result.temperature or 0.0) == lowest]


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
