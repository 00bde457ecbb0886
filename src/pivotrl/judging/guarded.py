"""Verification: a verifier behind a hard time limit, tried on known actions before and while it is believed.

The verifier runs in forked children (:mod:`pivotrl.judging.guard_processes`). One that says ``in_process = True``,
since it needs the policy, torch, or waits for a server under a limit of its own, runs where it is: one action after
another, or in several threads when it says ``concurrent = True`` too. A combination is taken apart for this: its parts
are guarded one by one.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pivotrl.judging.guard_processes import GuardProcesses
from pivotrl.judging.threads import Threads
from pivotrl.options import AtLeast1, Positive, check
from pivotrl.plugins.describing import describe
from pivotrl.protocols import BoundToPolicy, InputError, Sampler, Turn, Verifier
from pivotrl.records import Action, Verdict
from pivotrl.rollouts import judge_action, turns_bought

_NUM_CANARIES = 3
_MAX_TRIED = 16
"""Turns looked at for canaries."""
_MAX_WORKERS = 8
"""Of the default: each is a copy of this process, which it takes time to fork."""


@dataclass(frozen=True)
class VerificationOptions:
    """How a verifier is kept in check while a stage runs."""

    timeout_seconds: Positive = 10.0
    """Longest that a verdict may take; the verifier is killed then, and the action gets no verdict."""
    canary_every: AtLeast1 = 500
    """Verdicts between two trials of the known actions."""
    memory_gib: Positive | None = 8.0
    """Memory that a verifier may take, in each of its processes; more gives no verdict. None: no limit."""
    num_workers: AtLeast1 | None = None
    """Processes of a verifier that runs in a process of its own. None: one for each usable core, at most 8."""
    max_in_flight: AtLeast1 = 32
    """Verdicts under way at one time, of a verifier that waits for a server, such as judge (two requests each)."""

    def __post_init__(self) -> None:
        check(self)

    @property
    def workers(self) -> int:
        """The number of processes meant by ``num_workers``."""
        return self.num_workers or min(num_usable_cores(), _MAX_WORKERS)


def num_usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Verification:
    """A verifier that cannot hang, exhaust the memory, or stay broken unnoticed. Itself a verifier.

    To be used in a ``with`` block, which tries the canaries first. Verdicts are the verifier's own, as they would be
    read back from a file. There are two more, both without a reward: ``verifier_timeout`` and ``verifier_crashed``.

    Args:
        verifier: one with a method ``with_policy(sampler) -> Verifier`` is bound to ``policy`` first.
        options: limits.
        canaries: turns to try it at: the demonstrated action is known to pass, an empty one to fail. A few are used,
            spread over all, where at least one of the two comes out right: a turn whose demonstration cannot be
            judged says nothing of the verifier.
        policy: what acts at the turns.

    Raises:
        InputError: on entering, no canary came out right; or, there or at a later verdict, at some turn the known
            pass failed and the known fail passed, or neither got a verdict any more.
    """

    def __init__(
        self,
        verifier: Verifier,
        options: VerificationOptions = VerificationOptions(),
        canaries: Sequence[Turn] = (),
        policy: Sampler | None = None,
    ) -> None:
        self._name, self._options = describe(verifier), options
        self.wrapped = verifier
        self._guards: list[GuardProcesses] = []
        bound = verifier if policy is None else bind(verifier, policy)
        self._verifier = self._guarded(bound)
        self._num_threads = _width(bound, options) if _allows_threads(bound) else 1
        self._threads: Threads | None = None
        self._candidates = canaries[:: max(1, len(canaries) // _MAX_TRIED)][:_MAX_TRIED]
        self._canaries: list[Turn] = []
        self._num_verdicts = 0
        self.num_rollout_turns = 0
        """Actions sampled on behalf of the canaries, by a verifier that plays on."""

    def __enter__(self) -> Verification:
        try:
            self._choose_canaries()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for guard in self._guards:
            guard.close()
        if self._threads is not None:
            self._threads.close()

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        self._try_canaries_if_due()
        self._num_verdicts += 1
        return self._verifier(turn, action)

    def judge_all(self, cases: Sequence[tuple[Turn, Action]]) -> list[Verdict]:
        """A verdict for each (turn, action), in order: what :func:`judge_action` gives when they are judged one by one.

        Side by side are judged as many as ``num_workers`` and ``max_in_flight`` say, if every part of the verifier
        allows it. The canaries are tried between the same verdicts as one by one.

        Raises:
            InputError: as :func:`judge_action`, or a canary came out wrong. Verdicts under way are given up then.
        """
        verdicts: list[Verdict] = []
        while len(verdicts) < len(cases):
            self._try_canaries_if_due()
            until_due = self._options.canary_every - self._num_verdicts % self._options.canary_every
            judged = self._judge_together(cases[len(verdicts) : len(verdicts) + until_due])
            verdicts += judged
            self._num_verdicts += len(judged)
        return verdicts

    def _judge_together(self, cases: Sequence[tuple[Turn, Action]]) -> list[Verdict]:
        number = min(self._num_threads, len(cases))
        if number == 1:
            return [judge_action(turn, action, self._verifier) for turn, action in cases]
        for guard in self._guards:
            guard.start(number)
        if self._threads is None:
            self._threads = Threads(self._num_threads)  # they stay: a child dies with the thread that forked it
        try:
            return self._threads.map(lambda case: judge_action(case[0], case[1], self._verifier), cases)
        except BaseException:
            for guard in self._guards:
                guard.interrupt()
            raise

    def _guarded(self, verifier: Any) -> Verifier:
        if not _in_process(verifier):
            limits = self._options
            self._guards.append(GuardProcesses(verifier, limits.workers, limits.timeout_seconds, limits.memory_gib))
            return self._guards[-1]
        if parts := _parts(verifier):
            guarded: Verifier = dataclasses.replace(verifier, verifiers=tuple(map(self._guarded, parts)))
            return guarded
        return verifier  # type: ignore[no-any-return]

    def _try_canaries_if_due(self) -> None:
        """Every process is tried: one of them alone may be broken."""
        if not self._num_verdicts or self._num_verdicts % self._options.canary_every:
            return
        for number in reversed(range(max([1, *(guard.num_running for guard in self._guards)]))):
            for guard in self._guards:
                guard.prefer(number)
            for canary in self._canaries:
                known_pass, known_fail = self._try(canary)
                if known_pass.outcome != "pass" and known_fail.outcome != "fail":
                    raise self._broken(canary, known_pass, known_fail)

    def _choose_canaries(self) -> None:
        broken: InputError | None = None
        for turn in self._candidates:
            known_pass, known_fail = self._try(turn)
            if known_pass.outcome == "pass" or known_fail.outcome == "fail":
                self._canaries.append(turn)
                if len(self._canaries) == _NUM_CANARIES:
                    return
            else:
                broken = broken or self._broken(turn, known_pass, known_fail)
                if known_pass.outcome == "fail" and known_fail.outcome == "pass":
                    raise self._broken(turn, known_pass, known_fail)
        if broken and not self._canaries:
            raise broken

    def _try(self, turn: Turn) -> tuple[Verdict, Verdict]:
        known_pass = judge_action(turn, turn.expected_action, self._verifier)
        known_fail = judge_action(turn, Action(), self._verifier)
        self.num_rollout_turns += turns_bought([known_pass, known_fail])
        return known_pass, known_fail

    def _broken(self, turn: Turn, known_pass: Verdict, known_fail: Verdict) -> InputError:
        return InputError(
            f"the verifier {self._name} cannot be trusted: at {turn.id} it says {_told(known_pass)} of the "
            f"demonstrated action, which should pass, and {_told(known_fail)} of an empty one, which should fail; "
            "mend it, or choose another with --verifier"
        )


def bind(verifier: Any, policy: Sampler) -> Verifier:
    """The verifier, and each part of a combination, with the policy that it asks for (``with_policy``)."""
    if isinstance(verifier, BoundToPolicy):
        return verifier.with_policy(policy)
    if parts := _parts(verifier):
        bound: Verifier = dataclasses.replace(verifier, verifiers=tuple(bind(part, policy) for part in parts))
        return bound
    return verifier  # type: ignore[no-any-return]


def needs_policy(verifier: Any) -> bool:
    """Whether it, or a part of it, plays on with a policy."""
    return isinstance(verifier, BoundToPolicy) or any(map(needs_policy, _parts(verifier)))


def _allows_threads(verifier: Any) -> bool:
    """Whether several threads may call it: whatever runs in this process must say so."""
    return not _in_process(verifier) or (_says(verifier, "concurrent") and all(map(_allows_threads, _parts(verifier))))


def _width(verifier: Any, options: VerificationOptions) -> int:
    """How many verdicts can be under way at one time: the number of the part that takes the most."""
    if not _in_process(verifier):
        return options.workers
    return max((_width(part, options) for part in _parts(verifier)), default=options.max_in_flight)


def _in_process(verifier: Any) -> bool:
    if not hasattr(os, "fork"):
        return True
    return _says(verifier, "in_process") or any(map(_in_process, _parts(verifier)))


def _says(verifier: Any, attribute: str) -> bool:
    """What a verifier, or the function that it is made of, says of itself in an attribute; no when it says nothing."""
    return any(getattr(told, attribute, False) for told in (verifier, getattr(verifier, "func", None)))


def _parts(verifier: Any) -> tuple[Any, ...]:
    """What a combination consists of."""
    return verifier.verifiers if dataclasses.is_dataclass(verifier) and hasattr(verifier, "verifiers") else ()


def _told(verdict: Verdict) -> str:
    details = f" {verdict.details}" if verdict.details else ""
    return f"{verdict.outcome.replace('_', ' ')} ({verdict.reason}{details})"
