"""An observer in a thread of its own: whatever it does, the run goes on."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any

from pivotrl.protocols import Notice
from pivotrl.protocols.observing import Observer, fault_of
from pivotrl.records import Manifest

_PATIENCE_SECONDS = 30.0
_CAPACITY = 2_000
_MAKING_SECONDS = 60.0


class Background(Observer):
    """Passes events on through a bounded queue. The observer may be slow; if it raises or hangs, a notice says so once,
    and the run continues without it.

    Args:
        name: for the notices.
        make: called in the thread, since some libraries want their objects used where they were made.
        patience_seconds: how long one event may take before a notice says so, and how long the end of the run waits
            for an observer that does not get on.
        capacity: events in the queue; an observer that falls further behind gets no more.
        making_seconds: how long the caller waits for ``make``. After it a notice says so, and the run goes on without
            the observer, which is closed when it is ready after all.

    Raises:
        BaseException: what ``make`` raised.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Observer],
        patience_seconds: float = _PATIENCE_SECONDS,
        capacity: int = _CAPACITY,
        making_seconds: float = _MAKING_SECONDS,
    ) -> None:
        self._name, self._patience, self._events = name, patience_seconds, Queue[tuple[str, tuple[Any, ...]]](capacity)
        self._is_deaf, self._fault = False, ""
        self._moved, self._busy_with = time.monotonic(), ""
        self._told_of = 0.0
        """When the event began that the last notice was about."""
        made = Queue[BaseException | None](1)
        self._thread = threading.Thread(target=self._work, args=(make, made), name=f"tracker {name}", daemon=True)
        self._thread.start()
        try:
            error = made.get(timeout=making_seconds)
        except Empty:
            self._is_deaf = True
            self._events.put_nowait(("close", ()))
            self._say(f"was not ready after {making_seconds:g} s; the run goes on without it")
        else:
            if error is not None:
                raise error

    def opened(self, directory: Path) -> None:
        self._pass("opened", directory)

    def started(self, stage: str, manifest: Manifest) -> None:
        self._pass("started", stage, manifest)

    def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
        self._pass("progress", kind, done, total, note)

    def working(self, what: str) -> None:
        self._pass("working", what)

    def step(self, number: int, metrics: Mapping[str, float]) -> None:
        self._pass("step", number, dict(metrics))

    def notice(self, text: str) -> None:
        self._pass("notice", text)

    def finished(self, stage: str, manifest: Manifest) -> None:
        self._pass("finished", stage, manifest)

    def close(self) -> None:
        """Wait for the observer, as long as it gets on."""
        self._pass("close")
        while self._thread.is_alive() and not self._is_deaf:
            self._thread.join(0.05)
            if self._waited() > self._patience:
                self._is_deaf = True
                if self._told_of != self._moved:
                    self._say(f"is still busy with {self._busy_with!r}; {self._left()} not passed on")
        if self._fault and not self._is_deaf:
            self._is_deaf = True
            self._say(self._fault)

    def _pass(self, event: str, *facts: Any) -> None:
        if self._is_deaf:
            return
        if self._fault:
            self._is_deaf = True
            self._say(self._fault)
            return
        if self._waited() > self._patience and self._told_of != self._moved:
            self._told_of = self._moved
            self._say(f"has been busy with {self._busy_with!r} for {self._waited():.0f} s; the run goes on meanwhile")
        try:
            self._events.put_nowait((event, facts))
        except Full:
            self._is_deaf = True
            self._say(f"does not keep up and gets no more events; {self._left()} not passed on")

    def _work(self, make: Callable[[], Observer], made: Queue[BaseException | None]) -> None:
        try:
            observer = make()
        except BaseException as error:  # raised again where the observer was asked for
            made.put(error)
            return
        made.put(None)
        event = ""
        while event != "close":
            event, facts = self._events.get()
            self._moved, self._busy_with = time.monotonic(), event
            try:
                getattr(observer, event)(*facts)
            except BaseException as error:  # of a library, whose server may be gone; SystemExit, too
                self._fault = f"failed in {event} and gets no more events: {fault_of(error)}"
                return
            self._moved, self._busy_with = time.monotonic(), ""

    def _waited(self) -> float:
        """Seconds since the event began that the observer is busy with; 0 if it is idle."""
        return time.monotonic() - self._moved if self._busy_with else 0.0

    def _left(self) -> str:
        number = 0
        try:
            while self._events.get_nowait():
                number += 1
        except Empty:
            return f"{number} events were"

    def _say(self, what: str) -> None:
        warnings.warn(f"the tracker {self._name} {what}", Notice, stacklevel=3)
