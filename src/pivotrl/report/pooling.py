"""Trainings that differ in their seed alone, pooled: what the method does, not what one training did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pivotrl.evaluation.differences import Difference, crossed_difference
from pivotrl.records import Manifest
from pivotrl.report.evaluations import ANSWERS, MEASURES, Measure, with_temperature
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import training_stage
from pivotrl.runs.stage import CONTINUED
from pivotrl.storage.record_files import sha256_of_json

_SEEDS = ("train_seed", "seed")
"""Of the training, and of a policy's new weights."""
_NOT_COMPARED = (*_SEEDS, "keep_checkpoints", CONTINUED)


@dataclass(frozen=True)
class Pooled:
    """One measurement of the trainings of a set: means over seeds and tasks."""

    name: str
    unit: str
    trainings: tuple[str, ...]
    """Their stages, one for each seed."""
    step: int | None
    """Steps behind the measured checkpoint; None for the end."""
    before: float
    after: float
    difference: Difference
    """The change, with an interval for new seeds and new tasks."""
    higher_is_better: bool


def pooled_scores(files: RunFiles, manifests: Mapping[str, Manifest]) -> tuple[Pooled, ...]:
    """Every measurement of every set of at least two seeds, over tasks that all its evaluations and the one before
    training have scored.

    Trainings form a set if their options and inputs are the same but for seeds; evaluations are pooled if theirs are.
    Unfinished ones are left out.
    """
    sets: dict[str, dict[str, str]] = defaultdict(dict)  # what is shared -> seed -> training
    for stage, manifest in manifests.items():
        if manifest.status == "complete" and (stage == "train" or stage.startswith("trainings/")):
            seed = sha256_of_json([manifest.options.get(name) for name in _SEEDS])
            sets[_shared(manifest, _NOT_COMPARED)].setdefault(seed, stage)
    found: list[Pooled] = []
    for by_seed in sets.values():
        members = list(by_seed.values())
        groups: dict[str, dict[str, str]] = defaultdict(dict)  # what is shared -> training -> evaluation
        for stage, manifest in manifests.items():
            measured = measured_training(manifest)
            if stage.startswith("evaluations/") and manifest.status == "complete" and measured in members:
                shared = _shared(manifest, ("training",), but=f"{measured}/metrics.jsonl")
                groups[shared].setdefault(measured, stage.removeprefix("evaluations/"))
        for evaluations in groups.values():
            if len(evaluations) > 1:
                step = measured_step(manifests[f"evaluations/{next(iter(evaluations.values()))}"])
                found += [
                    one
                    for measure in (*MEASURES, ANSWERS)
                    for one in _pool(files, measure, tuple(evaluations), list(evaluations.values()), step)
                ]
    return tuple(found)


def _shared(manifest: Manifest, left_out: Sequence[str], but: str = "") -> str:
    options = {name: value for name, value in manifest.options.items() if name not in left_out}
    inputs = {name: value for name, value in manifest.inputs.items() if name not in (but, "checkpoint")}
    return sha256_of_json([options, inputs])


def measured_training(manifest: Manifest) -> str | None:
    """The training whose weights an evaluation measured; None if it measured none."""
    is_after = manifest.options.get("checkpoint") or any(name.endswith("/metrics.jsonl") for name in manifest.inputs)
    return training_stage(manifest.options.get("training")) if is_after else None


def measured_step(manifest: Manifest) -> int | None:
    """The steps of training behind the checkpoint that an evaluation measured; None for the end."""
    checkpoint = str(manifest.options.get("checkpoint"))
    return int(checkpoint) if checkpoint.isdecimal() else None


def _pool(
    files: RunFiles, measure: Measure, trainings: tuple[str, ...], names: Sequence[str], step: int | None
) -> list[Pooled]:
    """A score for each temperature."""
    old, *new = ({item.key: item for item in measure.read(files, name)} for name in ("before", *names))
    found = []
    temperatures = {getattr(item, "temperature", None) for item in old.values()}
    for temperature in sorted(temperatures, key=lambda t: -1.0 if t is None else t):
        first = {key: item for key, item in old.items() if getattr(item, "temperature", None) == temperature}
        sides_S = [_by_cluster(measure, first, its) for its in new]
        clusters = sorted(set.intersection(*(set(side) for side in sides_S)))
        if not clusters:
            continue
        value_ST2 = np.array([[side[cluster] for cluster in clusters] for side in sides_S])
        gain_ST = value_ST2[:, :, 1] - value_ST2[:, :, 0]
        found.append(
            Pooled(
                with_temperature(measure.kind, temperature),
                measure.unit,
                trainings,
                step,
                float(value_ST2[:, :, 0].mean()),
                float(value_ST2[:, :, 1].mean()),
                crossed_difference(gain_ST, bounded=measure.unit.startswith("share")),
                measure.higher_is_better,
            )
        )
    return found


def _by_cluster(
    measure: Measure, first: Mapping[str, Any], second: Mapping[str, Any]
) -> dict[str, tuple[float, float]]:
    """Cluster -> mean before and after, over the items that both sides scored."""
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for key in first.keys() & second.keys():
        (before, cluster), (after, _) = measure.value(first[key]), measure.value(second[key])
        if before is not None and after is not None:
            pairs[cluster].append((before, after))
    return {
        cluster: (sum(b for b, _ in its) / len(its), sum(a for _, a in its) / len(its))
        for cluster, its in pairs.items()
    }
