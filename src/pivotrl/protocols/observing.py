"""Observers watch a run: a terminal, a file or an experiment tracker.

A run reports everything through one observer, so a new kind of event or a new watcher changes no signature.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pivotrl.protocols import Notice
from pivotrl.records import Manifest


class Observer:
    """Receives the events of a run. Every method does nothing here: override those you need.

    Events come in order and from one thread; on the command line each tracker is made and told in a thread of its own
    (:mod:`pivotrl.protocols.background`). There its constructor has 60 s; afterwards the run goes on without it. What
    may take longer belongs into ``started``. An observer must not change its arguments.
    """

    specs: Sequence[str] = ()
    """The command line's names of trackers, which the stages note so that a resumed command uses them again."""

    def opened(self, directory: Path) -> None:
        """The directory of the run whose stage begins next. Sent before each ``started``."""

    def started(self, stage: str, manifest: Manifest) -> None:
        """A stage begins or continues; the manifest holds its options, inputs and policy. Skipped stages send no
        event."""

    def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` pieces of work of a kind such as "steps", sent before the first piece and after each.

        Args:
            total: 0 if unknown.
            note: a few words on the latest piece.
        """

    def working(self, what: str) -> None:
        """A piece of work without parts begins, such as "loading the model"; "" when it has ended."""

    def step(self, number: int, metrics: Mapping[str, float]) -> None:
        """The metrics ``area/name`` of a training step (docs/runs.md), numbered from 0. A resumed training reports only
        the steps that it performs."""

    def notice(self, text: str) -> None:
        """Something that a user should know but that stops nothing."""

    def finished(self, stage: str, manifest: Manifest) -> None:
        """A stage is complete; the manifest holds its counts and costs."""

    def close(self) -> None:
        """The run ends, successfully or not. No event follows."""


SILENT = Observer()
"""Ignores every event."""


class Observers(Observer):
    """Several observers as one. If one raises, a notice names it, it gets no more events, and the run continues."""

    def __init__(self, observers: Sequence[Observer], specs: Sequence[str] = ()) -> None:
        self._listening, self.specs = list(observers), specs
        self._busy: list[Observer] = []
        """Observers that are receiving an event. One that issues a notice then does not get its own."""

    def opened(self, directory: Path) -> None:
        self._tell("opened", directory)

    def started(self, stage: str, manifest: Manifest) -> None:
        self._tell("started", stage, manifest)

    def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
        self._tell("progress", kind, done, total, note)

    def working(self, what: str) -> None:
        self._tell("working", what)

    def step(self, number: int, metrics: Mapping[str, float]) -> None:
        self._tell("step", number, metrics)

    def notice(self, text: str) -> None:
        self._tell("notice", text)

    def finished(self, stage: str, manifest: Manifest) -> None:
        self._tell("finished", stage, manifest)

    def close(self) -> None:
        self._tell("close")

    def _tell(self, event: str, *facts: Any) -> None:
        for observer in list(self._listening):
            if any(observer is busy for busy in self._busy):
                continue
            self._busy.append(observer)
            try:
                getattr(observer, event)(*facts)
            except (Exception, SystemExit) as error:  # a user's tracker, whose server may be gone
                self._listening = [other for other in self._listening if other is not observer]
                self.notice(f"{type(observer).__name__} failed in {event} and gets no more events: {fault_of(error)}")
            finally:
                self._busy.pop()


def fault_of(error: BaseException) -> str:
    """``ValueError: the first line of its message``."""
    name = type(error).__name__
    try:
        return f"{name}: {error}".splitlines()[0][:200]
    except Exception:  # a user's exception may not have a text
        return name


@contextmanager
def at_work(observer: Observer, what: str) -> Iterator[None]:
    """Tell the observer of a piece of work without parts, see :meth:`Observer.working`."""
    observer.working(what)
    try:
        yield
    finally:
        observer.working("")


@contextmanager
def told_notices(observer: Observer) -> Iterator[None]:
    """Send every :class:`pivotrl.protocols.Notice` warning to the observer, if there is one; leave other warnings to
    Python."""
    if observer is SILENT:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("always", Notice)
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
            if issubclass(category, Notice):
                observer.notice(str(message))
            else:
                shown(message, category, *place, **options)

        warnings.showwarning = show
        yield
