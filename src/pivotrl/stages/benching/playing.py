"""Processes of a harness, side by side: started, watched, killed when a task takes too long, and read."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pivotrl.protocols import InputError
from pivotrl.protocols.harness import LOG, Batch, Harness, Home, Outcome
from pivotrl.records import TrialResult
from pivotrl.stages.benching.homes import clean_environment
from pivotrl.stages.benching.told import result_of, told

TIMED_OUT, FAILED, FLOODED = "timed_out", "harness_failed", "too_much_output"
_MOST_OUTPUT = 256 * 1024 * 1024
"""Bytes that a process may print."""
_POLL_SECONDS = 0.1
_END_SECONDS = 10.0
"""A process that is told to end may take so long, to clean up what it started."""
_MAX_FAILURES = 3
_DETAIL = 300
_DIE_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""
"""Becomes the command. A killed pivotrl then leaves nothing behind that goes on asking a paid endpoint."""


@dataclass
class _Running:
    batch: Batch
    process: subprocess.Popen[bytes]
    left: list[str]
    """Tasks without an outcome; the first is being played."""
    since: float
    """When that began."""


@dataclass
class Players:
    """The processes that play the batches.

    Args:
        keep: stores results, and returns when they are on disk.
        require_endpoint: raises InputError if the agent's endpoint does not answer.
        task_seconds: longest time for a task.
        attempts: task -> number of the attempt, for trials that are played again.

    Raises:
        InputError: the endpoint is gone, or the harness can play no task at all. What is finished is kept.
    """

    harness: Harness
    home: Home
    keep: Callable[[Sequence[TrialResult]], None]
    require_endpoint: Callable[[], None]
    task_seconds: float
    num_processes: int
    attempt_of: Callable[[str, int], int]
    has_verdicts: bool = False
    _running: list[_Running] = field(default_factory=list)
    _failures: list[TrialResult] = field(default_factory=list)
    """Held back until one task had a verdict: if none can be played, nothing is stored, and nothing is lost."""

    def play(self, batches: Iterable[Batch], again: Callable[[Batch, Sequence[str]], Batch]) -> None:
        """
        Args:
            again: makes a batch of the tasks that a process left when it ended early.
        """
        waiting = list(batches)
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self.num_processes:
                    self._running.append(self._start(waiting.pop(0)))
                time.sleep(_POLL_SECONDS)
                for one in list(self._running):
                    if self._look(one):
                        self._running.remove(one)
                        if one.left:
                            waiting.insert(0, again(one.batch, one.left))
            self._hold(())
            if self._failures:
                self._give_up()
        finally:
            for one in self._running:
                end(one.process)

    def _start(self, batch: Batch) -> _Running:
        command = self.harness.command(self.home, batch)
        with (batch.folder / LOG).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command.words],
                cwd=batch.folder,
                env={**clean_environment(), **command.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return _Running(batch, process, list(batch.tasks), time.monotonic())

    def _look(self, one: _Running) -> bool:
        """Store what is new; whether the process has ended."""
        has_ended, now = one.process.poll() is not None, time.monotonic()
        outcomes, fault = told(self.harness, one.batch)
        new = [outcome for task, outcome in outcomes.items() if task in one.left]
        if new:
            if any(outcome.reward is None for outcome in new):
                self.require_endpoint()  # what a server did is no matter of the task: it is played again
            share = (now - one.since) / len(new)
            self._hold([self._result(one.batch, outcome, share) for outcome in new])
            one.left = [task for task in one.left if task not in {outcome.task for outcome in new}]
            one.since = now
        if has_ended:
            if one.left:
                self.require_endpoint()
            if len(one.left) == len(one.batch.tasks):  # otherwise the next may not have begun: it gets a process again
                self._hold([self._none(one, FAILED, now, fault)])
                one.left.pop(0)
            end(one.process)  # what it started may still run
        elif one.left and (reason := self._misbehaves(one, now)):
            end(one.process)
            self._hold([self._none(one, reason, now)])
            one.left.pop(0)
            return True
        return has_ended

    def _misbehaves(self, one: _Running, now: float) -> str:
        """Why a process must end; empty if it need not."""
        if now - one.since > self.task_seconds:
            return TIMED_OUT
        return FLOODED if (one.batch.folder / LOG).stat().st_size > _MOST_OUTPUT else ""

    def _hold(self, results: Sequence[TrialResult]) -> None:
        failed = [result for result in results if result.reason == FAILED]
        kept = [result for result in results if result.reason != FAILED]
        self.has_verdicts |= any(result.reward is not None for result in kept)
        self._failures += failed
        if self.has_verdicts:
            kept, self._failures = kept + self._failures, []
        if kept:
            self.keep(kept)
        if len(self._failures) >= _MAX_FAILURES:
            self._give_up()

    def _give_up(self) -> None:
        first = self._failures[0]
        raise InputError(
            f"{self.harness.package} ended without a result at each of its first {len(self._failures)} tasks "
            f"({first.task_id}: {first.detail or 'it printed nothing'}); its output is in {first.folder}/{LOG} of the "
            "player's folder. Nothing is stored of these tasks; mend the cause and start again"
        )

    def _result(self, batch: Batch, outcome: Outcome, seconds: float, detail: str = "") -> TrialResult:
        attempt = self.attempt_of(outcome.task, batch.trial)
        if outcome.reward is None:
            detail = detail or last_words(batch.folder)
        return result_of(batch, outcome, attempt, seconds if outcome.seconds is None else outcome.seconds, detail)

    def _none(self, one: _Running, reason: str, now: float, detail: str = "") -> TrialResult:
        return self._result(one.batch, Outcome(one.left[0], None, reason), now - one.since, detail)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and everything in its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_words(folder: Path) -> str:
    """The last line of a log that names an error, or the last one."""
    path = folder / LOG
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 65_536))
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line]
    return (named or lines or [""])[-1][:_DETAIL]
