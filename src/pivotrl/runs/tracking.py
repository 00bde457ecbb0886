"""What experiment trackers share: every stage of a run is one run of the tracker."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pivotrl.protocols.observing import Observer
from pivotrl.records import Manifest, StepMetrics
from pivotrl.storage.record_files import RecordFile

Value = str | int | float | bool | None


@dataclass(frozen=True)
class TrackedStage:
    """A stage as a tracker names it."""

    id: str
    """The same when the stage resumes, another one when it is started again with ``--overwrite``."""
    stage: str
    """Such as ``train`` or ``trainings/seed1``."""
    config: Mapping[str, Value]
    """Its options, and ``policy/...``."""
    directory: Path | None = None
    """Of the run; None for a training that belongs to no run."""

    @property
    def group(self) -> str:
        """The name of the run."""
        return self.directory.name if self.directory else "pivotrl"

    @property
    def name(self) -> str:
        """``mine/train``."""
        return f"{self.group}/{self.stage}"

    @property
    def kind(self) -> str:
        """``train`` for every training."""
        folder = self.stage.partition("/")[0]
        return {"trainings": "train", "evaluations": "evaluate", "selections": "select"}.get(folder, folder)


class StageTracker(Observer):
    """Turns the events of a run into calls of an experiment tracker. A subclass writes :meth:`begin`, :meth:`log`,
    :meth:`text` and :meth:`end`.

    A training that was killed repeats the steps since its last checkpoint, with the same result. What the tracker has
    of them is not sent again, and what it has not, because it was lost on the way, is sent from ``metrics.jsonl``. So
    each step is sent once.
    """

    _directory: Path | None = None
    _is_open = False
    _last_step = -1
    _pending: tuple[str, ...] = ()

    def begin(self, stage: TrackedStage) -> int:
        """Begin or continue a run of the tracker. Returns the last step that it has, or -1."""
        raise NotImplementedError

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """The metrics ``area/name`` of a step (docs/runs.md)."""
        raise NotImplementedError

    def text(self, notice: str) -> None:
        """A notice."""
        raise NotImplementedError

    def end(self, counts: Mapping[str, Value], is_complete: bool) -> None:
        """End the tracker's run. The counts are those of the stage's manifest; none if it was interrupted."""
        raise NotImplementedError

    def opened(self, directory: Path) -> None:
        self._directory = directory.resolve()

    def started(self, stage: str, manifest: Manifest) -> None:
        self.close()
        config = {**flat(manifest.options), **flat({"policy": manifest.policy})}
        self._begin(TrackedStage(manifest.id or uuid.uuid4().hex, stage, config, self._directory))
        if self._directory:
            for row in RecordFile(self._directory / stage / "metrics.jsonl", StepMetrics):
                self.step(row.step, row.metrics)

    def step(self, number: int, metrics: Mapping[str, float]) -> None:
        if not self._is_open:
            self._begin(TrackedStage(uuid.uuid4().hex, "training", {}))
        if number > self._last_step:
            self.log(number, metrics)
            self._last_step = number

    def notice(self, text: str) -> None:
        if self._is_open:
            self.text(text)
        else:
            self._pending += (text,)

    def finished(self, stage: str, manifest: Manifest) -> None:
        if self._is_open:
            self._is_open = False
            seconds = {"seconds": manifest.wall_seconds, "rollout_turns": manifest.num_rollout_turns}
            self.end(flat({"counts": {**manifest.counts, **seconds}}), True)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self.end({}, False)

    def _begin(self, stage: TrackedStage) -> None:
        self._last_step = self.begin(stage)
        self._is_open = True
        for text in self._pending:
            self.text(text)
        self._pending = ()


def flat(values: Mapping[str, object], prefix: str = "") -> dict[str, Value]:
    """Nested mappings as ``outer/inner``; what is no single value becomes JSON."""
    found: dict[str, Value] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}/")
        elif value is None or isinstance(value, (str, int, float, bool)):
            found[f"{prefix}{name}"] = value
        else:
            found[f"{prefix}{name}"] = json.dumps(value, default=str)
    return found
