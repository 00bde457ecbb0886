"""The terminal as an observer: live bars with the time left, or plain lines if stderr is not a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pivotrl.cli.tables import plain
from pivotrl.protocols.observing import Observer

errors = Console(stderr=True, highlight=False)
"""Everything except results goes here."""
_SECONDS_BETWEEN_LINES = 10.0


class Notices(Observer):
    """Shows notices, one line each, and nothing else."""

    def notice(self, text: str) -> None:
        errors.print(f"[bold yellow]pivotrl:[/] {plain(text)}", soft_wrap=True)


class PlainLines(Notices):
    """For logs: a line every few seconds and at the end of each kind of work.

    The time left is estimated from the work since the first report of its kind; earlier work does not count.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began: dict[str, tuple[float, int]] = {}
        self._last = -_SECONDS_BETWEEN_LINES

    def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
        now = self._clock()
        if kind not in self._began or done < self._began[kind][1]:
            self._began[kind] = now, done
        start, done_before = self._began[kind]
        if done == total or now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            is_known = done_before < done < total
            left = (
                f", about {_duration((now - start) * (total - done) / (done - done_before))} left" if is_known else ""
            )
            errors.print(f"{done}/{total or '?'} {_words(kind, note)}{left}", soft_wrap=True)
        if done == total:
            del self._began[kind]


class LiveBars(Notices):
    """A bar for each kind of work, with the time left."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, Any] = {}

    def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
        tasks, bars = self._tasks, self._bars
        if kind in tasks and bars.tasks[tasks[kind]].finished and done < total:
            del tasks[kind]
        if kind not in tasks:
            tasks[kind] = bars.add_task(kind, total=total or None, completed=done)
        bars.update(tasks[kind], completed=done, description=_words(kind, note))


@contextmanager
def live_progress() -> Iterator[Observer]:
    """Live bars on a terminal, plain lines elsewhere."""
    if not errors.is_terminal:
        yield PlainLines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors) as bars:
        yield LiveBars(bars)


def _words(kind: str, note: str) -> str:
    return f"{kind} · {note}" if note else kind


def _duration(seconds: float) -> str:
    """In about two digits: 45 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
