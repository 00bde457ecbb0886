"""A rule verifier in forked children: several of them, each with its own limits (:mod:`pivotrl.judging.killable`)."""

from __future__ import annotations

from collections import OrderedDict, deque
from threading import Condition, Lock

from pivotrl.judging.killable import Crashed, Killable, TookTooLong
from pivotrl.options import flag
from pivotrl.protocols import InputError, Turn, Verifier
from pivotrl.records import Action, Record, Trajectory, Verdict
from pivotrl.rollouts import judge_action

_MAX_KNOWN = 16
"""Trajectories that a child keeps. The samples of a turn come together, so a few are enough."""


class GuardProcesses:
    """A verifier in ``num_workers`` children; a free one judges the next action. Any number of threads may call.

    There are two verdicts beside the verifier's own, both without a reward: ``verifier_timeout`` and
    ``verifier_crashed``. A child is forked when it is first needed, and anew after one that it did not survive.
    """

    def __init__(self, verifier: Verifier, num_workers: int, timeout_seconds: float, memory_gib: float | None) -> None:
        self._guards = [_Guard(verifier, timeout_seconds, memory_gib) for _ in range(num_workers)]
        self._free, self._changed = deque(self._guards), Condition()

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        with self._changed:
            self._changed.wait_for(lambda: self._free)
            guard = self._free.popleft()
        try:
            return guard(turn, action)
        finally:
            with self._changed:
                self._free.appendleft(guard)  # the one last used comes first: calls one by one need one child
                self._changed.notify()

    def start(self, number: int) -> None:
        """Have that many children run, or all. They are best forked before there are threads to call.

        Raises:
            InputError: the system gives no more processes.
        """
        for guard in self._guards[:number]:
            try:
                guard.start()
            except OSError as error:
                raise InputError(
                    f"{len(self._guards)} processes for the verifier cannot be started ({error}); lower "
                    f"{flag('num_workers')}"
                ) from error

    @property
    def num_running(self) -> int:
        return sum(guard.child.running for guard in self._guards)

    def prefer(self, number: int) -> None:
        """Give the next call to the running child of this number, if there are as many and it is free."""
        running = [guard for guard in self._guards if guard.child.running]
        with self._changed:
            if number < len(running) and running[number] in self._free:
                self._free.remove(running[number])
                self._free.appendleft(running[number])

    def interrupt(self) -> None:
        """Kill every child; calls under way get ``verifier_crashed``."""
        for guard in self._guards:
            guard.child.interrupt()

    def close(self) -> None:
        """Kill every child for good."""
        for guard in self._guards:
            guard.child.interrupt(for_good=True)
        for guard in self._guards:
            guard.close()


class _Guard:
    """A verifier in one child. Trajectories are sent once and then named by a number."""

    def __init__(self, verifier: Verifier, timeout_seconds: float, memory_gib: float | None) -> None:
        self._timeout = timeout_seconds
        self.child = Killable(_Answers(verifier), memory_gib)
        self._known: OrderedDict[int, tuple[Trajectory, int]] = OrderedDict()  # id -> itself, so that the id stays its
        self._lock = Lock()

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        with self._lock:
            number, new = self._number(turn.trajectory)
            request = _Request(number=number, index=turn.index, action=action, trajectory=new)
            try:
                line = request.model_dump_json(exclude_defaults=True).encode()
                reply = _Reply.model_validate_json(self.child.ask(line, self._timeout))
            except TookTooLong:
                return Verdict.unknown("verifier_timeout", limit_seconds=self._timeout)
            except Crashed as crash:
                return Verdict.unknown("verifier_crashed", error=str(crash))
            except ValueError:  # what cannot be sent is not known there
                self._known.clear()
                raise
        if reply.verdict is None:
            raise InputError(reply.input_error)
        return reply.verdict

    def start(self) -> None:
        if self._lock.acquire(blocking=False):  # else it is in use
            try:
                if not self.child.running:
                    self._known.clear()
                    self.child.start()
            finally:
                self._lock.release()

    def _number(self, trajectory: Trajectory) -> tuple[int, Trajectory | None]:
        if not self.child.running:
            self._known.clear()
        if (key := id(trajectory)) in self._known:
            self._known.move_to_end(key)
            return self._known[key][1], None
        number = self._known.popitem(last=False)[1][1] if len(self._known) == _MAX_KNOWN else len(self._known)
        self._known[key] = trajectory, number
        return number, trajectory

    def close(self) -> None:
        with self._lock:  # whoever asked sees that the child is gone, and lets go
            self.child.close()


class _Request(Record):
    number: int
    index: int
    action: Action
    trajectory: Trajectory | None = None
    """Sent when it is not yet known, or no longer; its number then means it."""


class _Reply(Record):
    verdict: Verdict | None = None
    input_error: str = ""


class _Answers:
    """The child's side."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._trajectories: dict[int, Trajectory] = {}

    def __call__(self, line: bytes) -> bytes:
        request = _Request.model_validate_json(line)
        if request.trajectory is not None:
            self._trajectories[request.number] = request.trajectory
        turn = Turn(self._trajectories[request.number], request.index)
        try:
            verdict = judge_action(turn, request.action, self._verifier)
        except InputError as error:
            return _Reply(input_error=str(error)).model_dump_json().encode()
        try:
            return _Reply(verdict=verdict).model_dump_json().encode()
        except ValueError as error:  # details that are no JSON
            return _Reply(verdict=Verdict.unknown("verifier_error", error=repr(error)[:500])).model_dump_json().encode()
