"""Deals jobs to workers until all are answered, whatever becomes of single workers."""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pivotrl.protocols import InputError, Notice
from pivotrl.samplers.ray.cluster import Cluster, Died, Needs
from pivotrl.samplers.ray.worker import PASSED, Worker
from pivotrl.storage.record_files import counted

_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Job:
    """A question to any worker.

    Args:
        question, arguments: a method of :class:`pivotrl.samplers.ray.worker.Worker` and what it takes.
        name: what it is about, for messages.
        size: the largest is dealt first.
    """

    question: str
    arguments: tuple[Any, ...]
    name: str
    size: tuple[int, ...] = ()


@dataclass
class _Seat:
    """The place of a worker; a worker that dies is followed by another."""

    number: int
    spec: str
    actor: Any = None
    ref: Any = None
    """What the worker is asked now; None if it is idle or no longer in use."""
    job: int | None = None
    """The job in work; None while the worker starts."""
    since: float = 0.0
    where: str = "not yet placed"
    num_failures: int = 0
    """Since its last answer."""
    fault: str = ""
    """Why it is no longer in use."""


class Pool:
    """Workers that all hold the same policy or sampler.

    Args:
        needs: what each worker takes of it.
        kind: ``policies`` or ``samplers``.
        specs: what each worker loads.
        max_restarts, timeout_seconds, start_seconds: see :class:`pivotrl.samplers.ray.Sampler`.

    Raises:
        InputError: a worker cannot be started, or differs from the others.
    """

    def __init__(
        self,
        cluster: Cluster,
        needs: Needs,
        kind: str,
        specs: Sequence[str],
        max_restarts: int,
        timeout_seconds: float | None,
        start_seconds: float,
    ) -> None:
        self._cluster, self._needs, self._kind, self._max_restarts = cluster, needs, kind, max_restarts
        self._timeout_seconds, self._start_seconds = timeout_seconds, start_seconds
        self._lock = threading.Lock()
        self.facts: dict[str, Any] = {}
        """What the first worker said of its policy or sampler."""
        self._seats = [_Seat(number, spec) for number, spec in enumerate(specs, 1)]
        for seat in self._seats:
            self._start(seat)
        while any(seat.ref is not None for seat in self._seats):
            for _ in self._outcomes():
                pass
            if gone := next((seat for seat in self._seats if seat.fault), None):
                raise InputError(f"{self._name(gone)} cannot start: {gone.fault}")

    @property
    def num_workers(self) -> int:
        """Workers that are in use."""
        return sum(not seat.fault for seat in self._seats)

    def run(self, jobs: Sequence[Job]) -> list[Any]:
        """The answers, in the order of the jobs. The job of a worker that dies is dealt again, before all others.

        Raises:
            InputError: no worker is left, or the same job ended several.
        """
        order = sorted(range(len(jobs)), key=lambda number: jobs[number].size, reverse=True)
        left, answers, num_ended = deque(order), dict[int, Any](), Counter[int]()
        with self._lock:
            try:
                while len(answers) < len(jobs):
                    self._deal(left, jobs)
                    for job, fault, answer in self._outcomes():
                        if not fault:
                            answers[job] = answer
                            continue
                        left.appendleft(job)
                        num_ended[job] += 1
                        if num_ended[job] > self._max_restarts:
                            failed = f"{counted(num_ended[job], 'worker')} failed at {jobs[job].name}, last {fault}"
                            raise InputError(
                                f"{failed}. Finished work is kept; mend the cause, such as too little memory for long "
                                "turns, and repeat the command"
                            )
            finally:
                for seat in self._seats:
                    if seat.job is not None:  # nobody waits for it any more
                        seat.ref = seat.job = None
        return [answers[number] for number in range(len(jobs))]

    def close(self) -> None:
        """End the workers."""
        for seat in self._seats:
            self._cluster.kill(seat.actor)

    def _deal(self, left: deque[int], jobs: Sequence[Job]) -> None:
        for seat in self._seats:
            if left and seat.ref is None and not seat.fault:
                seat.job = left.popleft()
                self._ask(seat, jobs[seat.job].question, *jobs[seat.job].arguments)
        if all(seat.fault for seat in self._seats):
            told = "; ".join(f"{self._name(seat)}: {seat.fault}" for seat in self._seats)
            raise InputError(f"no worker is left. {told}. Finished work is kept; mend this and repeat the command")

    def _outcomes(self) -> Iterator[tuple[int, str, Any]]:
        """(job, "" or why it has no answer, its answer) of the jobs that ended. Waits for about a second at most."""
        busy = {seat.ref: seat for seat in self._seats if seat.ref is not None}
        ready = self._cluster.wait(list(busy), _POLL_SECONDS)
        for ref, seat in busy.items():
            job = seat.job
            if ref in ready:
                fault, answer = self._answer(seat)
            elif late := self._lateness(seat):  # a place that is not free now would not be free at once
                fault, answer = (self._retired if job is None else self._lost)(seat, late), None
            else:
                continue
            if job is not None:
                yield job, fault, answer

    def _answer(self, seat: _Seat) -> tuple[str, Any]:
        try:
            kind, answer, notices = self._cluster.take(seat.ref)
        except Died as died:
            return self._lost(seat, str(died)), None
        is_start, seat.ref, seat.job = seat.job is None, None, None
        for notice in notices:
            warnings.warn(f"{self._name(seat)}: {notice}" if len(self._seats) > 1 else notice, Notice, stacklevel=5)
        if kind == "ok":
            if is_start:
                fault = self._started(seat, answer)
                return (self._retired(seat, fault) if fault else ""), None
            seat.num_failures = 0
            return "", answer
        if kind in PASSED:
            raise PASSED[kind](answer)
        if kind == "InputError":  # it would say the same again
            return self._retired(seat, answer), None
        return self._lost(seat, answer), None

    def _started(self, seat: _Seat, facts: dict[str, Any]) -> str:
        """How the worker differs from the first one; "" if it does not."""
        seat.where = f"{facts['host']}, process {facts['pid']}"
        self.facts = self.facts or facts
        was, now = self.facts["identity"], facts["identity"]
        different = sorted(name for name in {*was, *now} if was.get(name) != now.get(name))
        if not different:
            return ""
        name = different[0]
        return (
            f"it would draw other samples: its {name} is {now.get(name)!r:.80}, that of the first worker "
            f"{was.get(name)!r:.80}. Give all workers the same model, on the same kind of device"
        )

    def _lateness(self, seat: _Seat) -> str:
        seconds = self._start_seconds if seat.job is None else self._timeout_seconds
        if seconds is None or time.monotonic() - seat.since < seconds:
            return ""
        if seat.job is None:
            return f"it did not start within {seconds:g} s ({self._cluster.room})"
        return f"it gave no answer within {seconds:g} s"

    def _lost(self, seat: _Seat, fault: str) -> str:
        """The worker is dead or of no use; another takes its place, if it has not failed too often."""
        self._cluster.kill(seat.actor)
        seat.num_failures += 1
        if seat.num_failures > self._max_restarts:
            return self._retired(seat, f"{fault}, after {seat.num_failures} failures in a row")
        name = self._name(seat)
        if self.facts:
            told = f"{name} failed: {fault}. A new one starts; its work is dealt again"
            warnings.warn(told, Notice, stacklevel=6)
        self._start(seat)
        return f"{name}: {fault}"

    def _retired(self, seat: _Seat, fault: str) -> str:
        seat.ref, seat.job, seat.fault = None, None, fault
        self._cluster.kill(seat.actor)
        told = f"{self._name(seat)}: {fault}"
        if self.num_workers and self.facts:
            warnings.warn(f"{told}. The other workers go on without it", Notice, stacklevel=6)
        return told

    def _start(self, seat: _Seat) -> None:
        seat.actor, seat.job = self._cluster.start(Worker, self._needs.cpus, self._needs.gpus), None
        places = str(Path.cwd()), sys.path
        self._ask(seat, "start", self._kind, seat.spec, self._needs.gpus > 0, *places)

    def _ask(self, seat: _Seat, question: str, *arguments: Any) -> None:
        seat.ref, seat.since = self._cluster.ask(seat.actor, question, *arguments), time.monotonic()

    def _name(self, seat: _Seat) -> str:
        return f"worker {seat.number} of {len(self._seats)} ({seat.where})"
