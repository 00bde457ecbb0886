"""Compares methods under one protocol, with equal budgets and several seeds.

The arms of a seed share reading, profiling and the evaluation before training. Each then selects, trains and is
evaluated on the same held-out items. The budget is computation in forward token-equivalents (a backward counts as two
forwards): imitation may spend on more demonstrations what PivotRL spends on profiling and sampling.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pivotrl.evaluation import EvaluationOptions, compare
from pivotrl.intervals import PairedDifference, clustered_mean
from pivotrl.judging.lint import CheckOptions
from pivotrl.plugins.describing import describe
from pivotrl.profiling import ProfileOptions
from pivotrl.protocols import MakeEnvironments, Policy, Reader, Verifier
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.records import EpisodeResult, Record, RetentionResult, SampleGroup, TurnResult
from pivotrl.rollouts import judge
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import outputs
from pivotrl.runs.manifest import manifest_path, outputs_of, read_manifest, write_manifest
from pivotrl.selection import Rule, SelectionOptions
from pivotrl.stages.evaluating import evaluate_stage
from pivotrl.stages.profiling import profile_stage
from pivotrl.stages.reading import read_stage
from pivotrl.stages.selecting import select_stage
from pivotrl.stages.training import train_stage
from pivotrl.storage.record_files import encode_line, read_records, write_file
from pivotrl.training import TrainingOptions
from pivotrl.turns import TurnOptions


@dataclass(frozen=True)
class Arm:
    """One method: its turns, its way of learning and its reward."""

    rule: Rule
    imitates: bool = False
    exact: bool = False
    """Reward only the demonstrated action itself (the paper's r_strict) in profiling and training."""
    kl_coefficient: float | None = None
    """Weight of the KL to the reference; None takes the protocol's. Its extra forward is not in the budget."""


ARMS = {
    "sft_all": Arm("all", imitates=True),
    "sft_pivots": Arm("mixed", imitates=True),
    "random_turns": Arm("random"),
    "exact_reward": Arm("mixed", exact=True),
    "pivotrl": Arm("mixed"),
    "pivotrl_kl": Arm("mixed", kl_coefficient=0.3),
}


@dataclass(frozen=True)
class Protocol:
    """The settings that all arms share."""

    source: str
    heldout: str
    reader: Reader
    verifier: Verifier
    exact_verifier: Verifier
    make_policy: Callable[[int], Policy]
    """seed -> a fresh policy, the same for every arm of the seed."""
    environments: MakeEnvironments | Mapping[str, MakeEnvironments] | None
    turns: TurnOptions
    profiling: ProfileOptions
    selection: SelectionOptions
    training: TrainingOptions
    imitation_rate: float
    """Learning rate of the imitation arms."""
    evaluation: EvaluationOptions
    checking: CheckOptions = field(default_factory=CheckOptions)
    retention: Sequence[dict[str, str]] = ()
    """Texts outside the task, see :func:`pivotrl.evaluation.load_retention`."""


def run_seed(
    root: Path, seed: int, protocol: Protocol, arms: Iterable[str] = ARMS, observer: Observer = SILENT
) -> None:
    """Run every arm of one seed, under ``root/seed<N>/<arm>``; continue where it stopped."""
    shared = root / f"seed{seed}" / "shared"
    turn_options = dataclasses.replace(protocol.turns, draw_seed=seed)
    profiling = dataclasses.replace(protocol.profiling, profile_seed=seed)
    policy = protocol.make_policy(seed)
    read_stage(protocol.source, shared, reader=protocol.reader, heldout=protocol.heldout, observer=observer)
    profile_stage(
        shared,
        sampler=policy,
        verifier=protocol.verifier,
        turns=turn_options,
        profiling=profiling,
        checking=protocol.checking,
        observer=observer,
    )
    _evaluate(shared, "before", policy, protocol, observer)
    for name in arms:
        directory = root / f"seed{seed}" / name
        if not directory.exists():
            shutil.copytree(shared, directory)
        _run_arm(directory, ARMS[name], seed, protocol, turn_options, profiling, observer)


def _run_arm(
    directory: Path,
    arm: Arm,
    seed: int,
    protocol: Protocol,
    turn_options: TurnOptions,
    profiling: ProfileOptions,
    observer: Observer,
) -> None:
    policy = protocol.make_policy(seed)
    verifier = protocol.exact_verifier if arm.exact else protocol.verifier
    if arm.exact and not (directory / "select.manifest.json").exists():
        _judge_again(directory, verifier)
    select_stage(directory, selection=dataclasses.replace(protocol.selection, rule=arm.rule, selection_seed=seed))
    options = dataclasses.replace(protocol.training, train_seed=seed)
    if arm.kl_coefficient is not None:
        options = dataclasses.replace(options, kl_coefficient=arm.kl_coefficient)
    if arm.imitates:
        groups = read_records(directory / "profiles.jsonl", SampleGroup)
        options = dataclasses.replace(
            options,
            method="sft",
            turns_per_step=imitation_turns_per_step(groups, protocol.training),
            learning_rate=protocol.imitation_rate,
            decay="linear",
            kl_coefficient=0.0,
            importance_cap=None,
        )
    train_stage(
        directory, policy=policy, verifier=verifier, training=options, checking=protocol.checking, observer=observer
    )
    _evaluate(directory, "after", policy, protocol, observer)


def _evaluate(directory: Path, name: str, policy: Policy, protocol: Protocol, observer: Observer) -> None:
    evaluate_stage(
        directory,
        name=name,
        policy=policy,
        verifier=protocol.verifier,
        turns=protocol.turns,
        evaluation=protocol.evaluation,
        environments=protocol.environments,
        retention=protocol.retention,
        observer=observer,
    )


def _judge_again(directory: Path, verifier: Verifier) -> None:
    """Give the stored samples the verdicts of another verifier."""
    files = RunFiles(directory)
    groups = read_records(directory / "profiles.jsonl", SampleGroup)  # already judged, if it was killed here before
    judged = []
    for turn, group in zip(files.turns(group.turn_id for group in groups), groups, strict=True):
        verdicts = tuple(judge(turn, completion, verifier) for completion in group.completions_G)
        judged.append(group.model_copy(update={"verdicts_G": verdicts}))
    write_file(directory / "profiles.jsonl", b"".join(map(encode_line, judged)))
    manifest = read_manifest(manifest_path(directory, "profile"))
    changed = {
        "options": {**manifest.options, "verifier": describe(verifier)},
        "outputs": outputs_of(directory, outputs("profile")),
    }
    write_manifest(manifest_path(directory, "profile"), manifest.model_copy(update=changed))


def imitation_turns_per_step(groups: Sequence[SampleGroup], training: TrainingOptions) -> int:
    """Demonstrations per step that cost as much as PivotRL's profile and steps together, over equally many steps.

    Every group counts as trained on, with or without signal, so imitation never gets less.
    """
    prompt = sum(group.num_prompt_tokens for group in groups) / len(groups)
    lengths = [len(c.token_ids_T) for group in groups for c in group.completions_G]
    action = sum(lengths) / len(lengths)
    profile = sum(group.num_prompt_tokens for group in groups) + sum(lengths)
    group_cost = 4 * (prompt + training.group_size * action)  # one forward to sample, three to train
    total = profile + training.num_steps * training.turns_per_step * group_cost
    return round(total / (training.num_steps * 3 * (prompt + action)))


# --- results --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    key: str
    cluster: str
    value: float | None


@dataclass(frozen=True)
class Measure:
    """A measurement of every arm: its items, the value of each, and the cluster of each."""

    name: str
    file: str
    """``evaluations/<before or after>.<file>.jsonl``."""
    record: type[Record]
    item: Callable[[Any], str]
    cluster: Callable[[Any], str]
    value: Callable[[Any], float | None]
    bounded: bool = True
    """Whether values lie in [0, 1]."""

    def row(self, seed: int, record: Any) -> _Row:
        return _Row(f"{seed}/{self.item(record)}", self.cluster(record), self.value(record))


MEASURES = (
    Measure("turns", "turns", TurnResult, lambda r: r.turn_id, lambda r: r.task_id, lambda r: r.reward),
    Measure("episodes", "episodes", EpisodeResult, lambda r: r.key, lambda r: r.cluster, lambda r: r.reward),
    Measure(
        "nll", "retention", RetentionResult, lambda r: r.item_id, lambda r: r.item_id, lambda r: r.nll, bounded=False
    ),
    Measure(
        "kl", "retention", RetentionResult, lambda r: r.item_id, lambda r: r.item_id, lambda r: r.kl, bounded=False
    ),
)


def collect(root: Path) -> dict[str, Any]:
    """Results of every finished arm, pooled over seeds; differences are paired by (item, seed) and clustered by task.

    Returns:
        arm -> ``seeds``; the estimate of each of :data:`MEASURES` or None; under ``against``, the paired difference
        per measure and other arm.
    """
    rows: dict[str, dict[str, list[_Row]]] = {measure.name: {} for measure in MEASURES}
    seeds: dict[str, list[int]] = {}
    for folder in sorted(root.glob("seed*")):
        seed = int(folder.name.removeprefix("seed"))
        for name in ("base", *ARMS):
            place, stage = (folder / "shared", "before") if name == "base" else (folder / name, "after")
            manifest = place / "evaluations" / f"{stage}.manifest.json"
            if not manifest.is_file() or read_manifest(manifest).status != "complete":
                continue
            seeds.setdefault(name, []).append(seed)
            for measure in MEASURES:
                path = place / "evaluations" / f"{stage}.{measure.file}.jsonl"
                if path.is_file():
                    found = rows[measure.name].setdefault(name, [])
                    found.extend(measure.row(seed, item) for item in read_records(path, measure.record))
    return {
        name: {
            "seeds": numbers,
            **{m.name: _estimate(rows[m.name].get(name, []), m.bounded) for m in MEASURES},
            "against": {m.name: _against(name, rows[m.name], m.bounded) for m in MEASURES},
        }
        for name, numbers in seeds.items()
    }


def _estimate(rows: Sequence[_Row], bounded: bool) -> dict[str, Any] | None:
    scored = [(row.value, row.cluster) for row in rows if row.value is not None]
    if not scored:
        return None
    values, clusters = zip(*scored, strict=True)
    return dataclasses.asdict(clustered_mean(list(values), list(clusters), bounded=bounded))


def _against(name: str, rows: dict[str, list[_Row]], bounded: bool) -> dict[str, Any]:
    """Paired difference to the untrained policy, to imitation of all turns and to PivotRL."""
    found: dict[str, Any] = {}
    for other in ("base", "sft_all", "pivotrl"):
        if other != name and other in rows and name in rows:
            difference: PairedDifference | None = compare(
                rows[other], rows[name], lambda r: r.key, lambda r: r.value, lambda r: r.cluster, bounded
            )
            if difference is not None:
                found[other] = dataclasses.asdict(difference)
    return found
