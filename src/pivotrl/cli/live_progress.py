"""The terminal as an observer: live bars with the time left and the cost so far, or plain lines if stderr is not a
terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from pivotrl.cli.tables import plain
from pivotrl.protocols.observing import Observer
from pivotrl.report.following import Follower, RunNow

errors = Console(stderr=True, highlight=False)
"""Everything except results goes here."""
_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_LOOKS = 3.0
"""Between looks at the files of the run."""


class Notices(Observer):
    """Shows notices, one line each, and nothing else."""

    def notice(self, text: str) -> None:
        errors.print(f"[bold yellow]pivotrl:[/] {plain(text)}", soft_wrap=True)


class Spending:
    """The cost of a run so far, as text, from its files.

    Args:
        directory: None: nothing is counted.
    """

    def __init__(self, directory: Path | None = None, price_per_hour: float | None = None) -> None:
        self._follower = Follower(directory) if directory else None
        self._price = price_per_hour
        self._told, self._last = "", -_SECONDS_BETWEEN_LOOKS

    def told(self) -> str:
        """``1,452 rollout turns · 8,418 tokens · 0.69 in money``; at most a few seconds old."""
        now = time.monotonic()
        if self._follower is not None and now - self._last >= _SECONDS_BETWEEN_LOOKS:
            try:
                self._told = self._words(self._follower.look())
            except (OSError, ValueError):  # the stage itself says what is wrong with its files
                self._follower = None
            self._last = time.monotonic()
        return self._told

    def _words(self, run: RunNow) -> str:
        turns, tokens = (run.total(name) for name in ("rollout_turns", "tokens"))
        words = [f"{turns:,.0f} rollout turns", f"{tokens:,.0f} tokens"] if turns else []
        if turns and self._price is not None:
            words.append(f"{run.total('seconds') / 3600 * self._price:,.2f} in money")
        return " · ".join(words)


class PlainLines(Notices):
    """For logs: a line every few seconds and at the end of each kind of work, and one when work without parts begins.

    The time left is estimated from the work since the first report of its kind; earlier work does not count.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, spending: Spending | None = None) -> None:
        self._clock, self._spending = clock, spending or Spending()
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
            left = f", about {duration((now - start) * (total - done) / (done - done_before))} left" if is_known else ""
            spent = f" · {told}" if (told := self._spending.told()) else ""
            errors.print(f"{done}/{total or '?'} {_words(kind, note)}{left}{spent}", soft_wrap=True)
        if done == total:
            del self._began[kind]

    def working(self, what: str) -> None:
        if what:
            errors.print(plain(what), soft_wrap=True)


class LiveBars(Notices):
    """A bar for each kind of work, with the time left, above a line with the cost so far."""

    def __init__(self, bars: Bars, spending: Spending) -> None:
        self._bars, self._spending = bars, spending
        self._tasks: dict[str, Any] = {}

    def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
        tasks, bars = self._tasks, self._bars
        if kind in tasks and bars.tasks[tasks[kind]].finished and done < total:
            del tasks[kind]
        if kind not in tasks:
            tasks[kind] = bars.add_task(kind, total=total or None, completed=done)
        bars.update(tasks[kind], completed=done, description=_words(kind, note))
        bars.below = self._spending.told()

    def working(self, what: str) -> None:
        self._bars.tell_work(what)


class Bars(Progress):
    """Progress bars, with the work without parts and the cost so far below them."""

    below = ""
    _work: Progress | None = None

    def tell_work(self, what: str) -> None:
        """Show what is being done, with the time that it takes; "" shows nothing."""
        self._work = None
        if what:
            self._work = Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            self._work.add_task(plain(what), total=None)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self._work is not None:
            yield self._work.get_renderable()
        if self.below:
            yield Text(f"so far {self.below}", "dim")


@contextmanager
def live_progress(directory: Path | None = None, price_per_hour: float | None = None) -> Iterator[Observer]:
    """Live bars on a terminal, plain lines elsewhere.

    Args:
        directory: the run whose cost so far is shown, if any.
        price_per_hour: of the machine; the cost is shown in money too.
    """
    spending = Spending(directory, price_per_hour)
    if not errors.is_terminal:
        yield PlainLines(spending=spending)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=errors) as bars:
        yield LiveBars(bars, spending)


def _words(kind: str, note: str) -> str:
    return f"{kind} · {note}" if note else kind


def duration(seconds: float) -> str:
    """In about two digits: 45 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
