"""Progress on the terminal: a live bar with the time left, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

errors = Console(stderr=True, highlight=False)
"""Everything that is no result goes here."""
_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def live_progress() -> Iterator[Callable[[int, int, str], None]]:
    """A live bar with the time left, one line per kind of work; plain lines now and then where there is no terminal."""
    if not errors.is_terminal:
        yield _plain_lines()
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
        tasks: dict[str, Any] = {}

        def show(done: int, total: int, note: str) -> None:
            kind = note.partition(" ·")[0]
            if kind in tasks and bars.tasks[tasks[kind]].finished and done < total:
                del tasks[kind]
            if kind not in tasks:
                tasks[kind] = bars.add_task(note, total=total or None, completed=done)
            bars.update(tasks[kind], completed=done, description=note)

        yield show


def _plain_lines(clock: Callable[[], float] = time.monotonic) -> Callable[[int, int, str], None]:
    """For logs: a line every few seconds and at the end of each kind of work.

    What is left is told from what was done since the first report of its kind, which says what was done before.
    """
    began: dict[str, tuple[float, int]] = {}
    last = -_SECONDS_BETWEEN_LINES

    def show(done: int, total: int, note: str) -> None:
        nonlocal last
        kind, now = note.partition(" ·")[0], clock()
        if kind not in began or done < began[kind][1]:
            began[kind] = now, done
        start, done_before = began[kind]
        if done == total or now - last >= _SECONDS_BETWEEN_LINES:
            last = now
            is_known = done_before < done < total
            left = (
                f", about {_duration((now - start) * (total - done) / (done - done_before))} left" if is_known else ""
            )
            errors.print(f"{done}/{total or '?'} {note}{left}", soft_wrap=True)
        if done == total:
            del began[kind]

    return show


def _duration(seconds: float) -> str:
    """In two digits or so: 45 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
