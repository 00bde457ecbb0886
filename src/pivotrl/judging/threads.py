"""Threads that work through lists together, and give the results in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any


class Threads:
    """A fixed number of threads that live until :meth:`close`.

    They are daemons, and nobody joins them: one that waits for a server must not hold up an exit.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._lists = SimpleQueue[_List | None]()
        for _ in range(number):
            threading.Thread(target=self._work, daemon=True, name="verifying").start()

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """``function`` of each item, in order.

        Raises:
            BaseException: the first one that a call raised, or Ctrl-C. No further call is begun then. Calls under way
                are not waited for, and their results are lost.
        """
        if not items:
            return []
        batch = _List(function, items)
        for _ in range(min(self._number, len(items))):
            self._lists.put(batch)
        try:
            batch.ended.wait()
        except BaseException as interrupted:
            batch.stop(interrupted)
            raise
        if batch.error is not None:
            raise batch.error
        return batch.results

    def close(self) -> None:
        """Let every thread end as soon as its call returns."""
        for _ in range(self._number):
            self._lists.put(None)

    def _work(self) -> None:
        while (batch := self._lists.get()) is not None:
            batch.work()


class _List:
    def __init__(self, function: Callable[[Any], Any], items: Sequence[Any]) -> None:
        self._function, self._items = function, items
        self._lock, self._next, self._num_done = threading.Lock(), 0, 0
        self.results: list[Any] = [None] * len(items)
        self.error: BaseException | None = None
        self.ended = threading.Event()

    def work(self) -> None:
        while (number := self._take()) is not None:
            try:
                result = self._function(self._items[number])
            except BaseException as error:  # also what is meant to end a program: the caller's thread must see it
                self.stop(error)
                return
            self._put(number, result)

    def stop(self, error: BaseException) -> None:
        with self._lock:
            self.error = self.error or error
            self._next = len(self._items)
        self.ended.set()

    def _take(self) -> int | None:
        with self._lock:
            number = self._next
            self._next += 1
        return number if number < len(self._items) else None

    def _put(self, number: int, result: Any) -> None:
        with self._lock:
            self.results[number] = result
            self._num_done += 1
            is_last = self._num_done == len(self._items)
        if is_last:
            self.ended.set()
