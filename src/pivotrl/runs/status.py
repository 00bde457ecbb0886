"""How far a run is: each stage with its state, its counts and its cost so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pivotrl.protocols import InputError
from pivotrl.records import Manifest, StepMetrics
from pivotrl.runs import lock
from pivotrl.runs.costs import cost_of, money_of, tokens_of
from pivotrl.runs.layout import STAGES, known_stages, outputs
from pivotrl.runs.manifest import find_manifest
from pivotrl.storage.record_files import RecordFile, examine
from pivotrl.training_options.guard_rails import stopped_by

State = Literal["done", "running", "stopped", "damaged", "not begun"]


@dataclass(frozen=True)
class StageStatus:
    """One stage. Its cost is None where it is unknown."""

    stage: str
    state: State
    counts: dict[str, Any]
    """Of the manifest; of an unfinished stage, the rows of its files so far."""
    rollout_turns: int | None = None
    tokens: int | None = None
    """Sampled tokens."""
    seconds: float | None = None
    money: float | None = None
    """That a server took, at the prices of its sampler; None without prices."""
    fault: str = ""
    """What is damaged, or why a guard rail ended the training."""


@dataclass(frozen=True)
class RunStatus:
    """All stages: those of a whole run in order, then those with names."""

    directory: str
    stages: Sequence[StageStatus]

    def total(self, name: Literal["rollout_turns", "tokens", "seconds"]) -> float | None:
        """The sum over the stages that have begun; None if one is unknown."""
        costs = [getattr(stage, name) for stage in self.stages if stage.state != "not begun"]
        return None if None in costs else sum(costs)

    def as_json(self) -> dict[str, Any]:
        total = {"rollout_turns": self.total("rollout_turns"), "tokens": self.total("tokens")}
        paid = [stage.money for stage in self.stages if stage.money is not None]
        return {
            "directory": self.directory,
            "stages": [asdict(stage) for stage in self.stages],
            "total": {**total, "seconds": self.total("seconds"), "money": sum(paid) if paid else None},
        }


def status_of(directory: Path) -> RunStatus:
    """Reads the files; changes nothing, and may run while another process works in the directory."""
    is_held = lock.is_held(directory)
    names = list(dict.fromkeys([*STAGES, *known_stages(directory)]))
    return RunStatus(str(directory), [_status(directory, name, is_held) for name in names])


def _status(directory: Path, stage: str, is_held: bool) -> StageStatus:
    try:
        manifest = find_manifest(directory, stage)
        if manifest is None:
            return StageStatus(stage, "not begun", {})
        cost = cost_of(directory, stage, manifest)
        tokens, money = tokens_of(directory, stage), money_of(directory, stage)
        counts = manifest.counts if cost.finished else _rows(directory, stage)
    except (InputError, ValueError) as error:
        return StageStatus(stage, "damaged", {}, fault=str(error))
    state = _state(manifest, is_held)
    fault = guard_rail_of(directory, stage, manifest) if state == "stopped" else ""
    return StageStatus(stage, state, counts, cost.rollout_turns, tokens, cost.seconds, money, fault)


def guard_rail_of(directory: Path, stage: str, manifest: Manifest) -> str:
    """Why a guard rail ended an unfinished training; "" if none did."""
    rows = RecordFile(directory / stage / "metrics.jsonl", StepMetrics)
    if manifest.status == "complete" or not len(rows):
        return ""
    told = stopped_by(manifest.options, [row.metrics for row in rows])
    return told and f"a guard rail ended it: {told}"


def _state(manifest: Manifest, is_held: bool) -> State:
    if manifest.status == "complete":
        return "done"
    return "running" if is_held else "stopped"


def _rows(directory: Path, stage: str) -> dict[str, int]:
    """Rows of each record file of an unfinished stage."""
    files = [directory / name for name in outputs(stage) if name.endswith(".jsonl")]
    return {path.name: examine(path)[0] for path in files if path.is_file()}


def stages_needed(manifests: Mapping[str, Manifest]) -> list[str]:
    """The stages of a whole run; without profile and selection if its training was made from no selection."""
    train = manifests.get("train")
    is_done = train is not None and train.status == "complete"
    has_pivots = train is None or any("selection" in name for name in train.inputs)
    return [stage for stage in STAGES if has_pivots or not is_done or stage not in ("profile", "select")]
