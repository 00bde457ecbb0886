"""Writes every event of a run as a line of JSON, for `tail -f`, scripts and your own dashboards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pivotrl.protocols import InputError
from pivotrl.protocols.observing import Observer
from pivotrl.records import Manifest
from pivotrl.storage.record_files import timestamp


class Tracker(Observer):
    """Appends to a file; each line has ``event``, ``time`` (UTC) and the facts of the event.

    Args:
        path: the file; its folder must exist.

    Raises:
        InputError: the file cannot be written.
    """

    def __init__(self, *, path: str) -> None:
        try:
            self._file = Path(path).open("a", encoding="utf-8")  # noqa: SIM115 - until close()
        except OSError as error:
            raise InputError(f"cannot write the events to {path}: {error.strerror}; give another path") from error

    def started(self, stage: str, manifest: Manifest) -> None:
        self._write("started", stage=stage, options=manifest.options, policy=manifest.policy)

    def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
        self._write("progress", kind=kind, done=done, total=total, note=note)

    def step(self, number: int, metrics: Mapping[str, float]) -> None:
        self._write("step", number=number, metrics=dict(metrics))

    def notice(self, text: str) -> None:
        self._write("notice", text=text)

    def finished(self, stage: str, manifest: Manifest) -> None:
        self._write("finished", stage=stage, counts=manifest.counts, seconds=manifest.wall_seconds)

    def close(self) -> None:
        self._file.close()

    def _write(self, event: str, **facts: object) -> None:
        self._file.write(json.dumps({"event": event, "time": timestamp(), **facts}, default=str) + "\n")
        self._file.flush()
