"""Writes runs of Trackio on this machine."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any

from pivotrl.options import InputError
from pivotrl.plugins.extras import load_package
from pivotrl.runs.tracking import StageTracker, TrackedStage, Value


class Tracker(StageTracker):
    """Each stage is a run of Trackio; `trackio show` opens them. Notices are its alerts.

    Runs go to a Space or a server only if Trackio's own environment variables name one.

    Args:
        project: of Trackio.
        directory: where to write; "" is Trackio's own folder, where `trackio show` looks.

    Raises:
        InputError: the package is missing, or it was imported before and writes elsewhere.
    """

    def __init__(self, *, project: str = "pivotrl", directory: str = "") -> None:
        self._project = project
        if directory:
            os.environ["TRACKIO_DIR"] = directory  # read when it is imported
        self._trackio = load_package("trackio", "the tracker 'trackio'")
        self._storage = load_package("trackio.sqlite_storage", "the tracker 'trackio'").SQLiteStorage
        writes_to = load_package("trackio.utils", "the tracker 'trackio'").TRACKIO_DIR
        if directory and str(writes_to) != directory:
            raise InputError(f"trackio writes to {writes_to} in this process; leave out directory={directory!r}")

    def begin(self, stage: TrackedStage) -> int:
        name = f"{stage.name} {stage.id[:8]}"
        with _quiet():
            self._run: Any = self._trackio.init(
                self._project,
                name=name,
                group=stage.group,
                config=dict(stage.config),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        last = self._storage.get_last_step(self._project, run=name)
        return -1 if last is None else int(last)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._step = step
        self._run.log(dict(metrics), step=step)

    def text(self, notice: str) -> None:
        with _quiet():
            self._run.alert(title="notice", text=notice)

    def end(self, counts: Mapping[str, Value], is_complete: bool) -> None:
        with _quiet():
            if numbers := {name: value for name, value in counts.items() if isinstance(value, (int, float))}:
                self._run.log(numbers)
            self._run.finish()


class _OfOthers(io.TextIOBase):
    """Standard output without what this thread prints. Other threads print results meanwhile, even if Trackio hangs."""

    def __init__(self) -> None:
        self._out, self._thread = sys.stdout, threading.get_ident()

    def write(self, text: str) -> int:
        return len(text) if threading.get_ident() == self._thread else self._out.write(text)

    def flush(self) -> None:
        self._out.flush()

    def isatty(self) -> bool:
        return self._out.isatty()


def _quiet() -> contextlib.redirect_stdout[io.TextIOBase]:
    """Trackio prints to standard output, where results belong."""
    return contextlib.redirect_stdout(_OfOthers())
