"""Writes curves, options and notices for TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pivotrl.plugins.extras import load_package
from pivotrl.protocols.tracking import StageTracker, TrackedStage, Value


class Tracker(StageTracker):
    """Each stage is a run of TensorBoard, in a folder of its own.

    Args:
        directory: where to write; "" is ``tensorboard/`` in the directory of the run.

    Raises:
        InputError: the package is missing.
    """

    def __init__(self, *, directory: str = "") -> None:
        self._given, self._step = directory, 0
        self._proto = load_package("tensorboard.compat.proto", "the tracker 'tensorboard'")
        for part in ("event_pb2", "summary_pb2"):
            load_package(f"tensorboard.compat.proto.{part}", "the tracker 'tensorboard'")
        self._files = load_package("tensorboard.summary.writer.event_file_writer", "the tracker 'tensorboard'")
        self._text = load_package("tensorboard.plugins.text.metadata", "the tracker 'tensorboard'")
        self._tensors = load_package("tensorboard.util.tensor_util", "the tracker 'tensorboard'")

    def begin(self, stage: TrackedStage) -> int:
        folder = Path(self._given) if self._given else (stage.directory or Path()) / "tensorboard"
        name = Path(stage.group, stage.stage) if self._given else Path(stage.stage)
        self._writer = self._files.EventFileWriter(str(folder / name))
        self._restarts = True
        self._table("options", stage.config)
        return -1

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._step = step
        if self._restarts:  # TensorBoard then drops what an earlier process wrote of this step and later ones
            self._restarts = False
            start = self._proto.event_pb2.SessionLog(status=self._proto.event_pb2.SessionLog.START)
            self._event(session_log=start)
        kind = self._proto.summary_pb2.Summary
        values = [kind.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._event(summary=kind(value=values))
        self._writer.flush()

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
        self._event(summary=kind(value=[kind.Value(tag=tag, tensor=tensor, metadata=metadata)]))
        self._writer.flush()

    def _event(self, **content: Any) -> None:
        event = self._proto.event_pb2.Event(wall_time=time.time(), step=self._step, **content)
        self._writer.add_event(event)
