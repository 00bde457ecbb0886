"""Writes curves, options and notices for TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pivotrl.plugins.extras import load_package
from pivotrl.runs.tracking import StageTracker, TrackedStage, Value

_NAME = "the tracker 'tensorboard'"


class Tracker(StageTracker):
    """Each stage is a run of TensorBoard, in a folder of its own.

    Args:
        directory: where to write; "" is ``tensorboard/`` in the directory of the run.

    Raises:
        InputError: the package is missing.
    """

    def __init__(self, *, directory: str = "") -> None:
        self._given, self._step = directory, 0
        self._events = load_package("tensorboard.backend.event_processing.event_file_loader", _NAME)
        self._proto = load_package("tensorboard.compat.proto", _NAME)
        for part in ("event_pb2", "summary_pb2"):
            load_package(f"tensorboard.compat.proto.{part}", _NAME)
        self._files = load_package("tensorboard.summary.writer.event_file_writer", _NAME)
        self._text = load_package("tensorboard.plugins.text.metadata", _NAME)
        self._tensors = load_package("tensorboard.util.tensor_util", _NAME)

    def begin(self, stage: TrackedStage) -> int:
        folder = Path(self._given) / stage.group if self._given else (stage.directory or Path()) / "tensorboard"
        folder = folder / f"{stage.stage} {stage.id[:8]}"
        last = max((self._last_of(file) for file in folder.glob("events.out.tfevents.*")), default=-1)
        self._writer = self._files.EventFileWriter(str(folder))
        self._step = max(last, 0)
        self._table("options", stage.config)
        return last

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._step = step
        kind = self._proto.summary_pb2.Summary
        self._event(kind(value=[kind.Value(tag=name, simple_value=value) for name, value in metrics.items()]))

    def text(self, notice: str) -> None:
        self._write("notices", notice)

    def end(self, counts: Mapping[str, Value], is_complete: bool) -> None:
        if is_complete:
            self._table("counts", counts)
        self._writer.close()

    def _table(self, tag: str, values: Mapping[str, Value]) -> None:
        rows = "".join(f"| {name} | {str(value).replace('|', chr(92) + '|')} |\n" for name, value in values.items())
        self._write(tag, f"| name | value |\n| --- | --- |\n{rows}")

    def _write(self, tag: str, text: str) -> None:
        kind = self._proto.summary_pb2.Summary
        tensor = self._tensors.make_tensor_proto([text.encode()])
        metadata = self._text.create_summary_metadata(display_name=tag, description="")
        self._event(kind(value=[kind.Value(tag=tag, tensor=tensor, metadata=metadata)]))

    def _event(self, summary: Any) -> None:
        self._writer.add_event(self._proto.event_pb2.Event(wall_time=time.time(), step=self._step, summary=summary))
        self._writer.flush()

    def _last_of(self, file: Path) -> int:
        """The last step with a metric in a file, which may end in the middle of one."""
        events = self._events.RawEventFileLoader(str(file)).Load()
        parsed = map(self._proto.event_pb2.Event.FromString, events)
        metrics = (e for e in parsed if any(value.HasField("simple_value") for value in e.summary.value))
        return max((event.step for event in metrics), default=-1)
