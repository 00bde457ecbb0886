"""Verification: a verifier behind a hard time limit, tried on known actions before and while it is believed.

The verifier runs in a forked child (:mod:`pivotrl.judging.killable`). One that says ``in_process = True``, since it
needs the policy, torch, or waits for a server under a limit of its own, runs where it is. A combination is taken apart
for this: its parts are guarded one by one.
"""

from __future__ import annotations

import dataclasses
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from pivotrl.judging.killable import Crashed, Killable, TookTooLong
from pivotrl.options import AtLeast1, Positive, check
from pivotrl.plugins import describe
from pivotrl.protocols import InputError, Sampler, Turn, Verifier
from pivotrl.records import Action, Record, Trajectory, Verdict
from pivotrl.rollouts import judge_action, turns_bought

_NUM_CANARIES = 3
_MAX_TRIED = 16
"""Turns looked at for canaries."""
_MAX_KNOWN = 16
"""Trajectories that the child keeps. The samples of a turn come together, so a few are enough."""


@dataclass(frozen=True)
class VerificationOptions:
    """How a verifier is kept in check while a stage runs."""

    timeout_seconds: Positive = 10.0
    """Longest that a verdict may take; the verifier is killed then, and the action gets no verdict."""
    canary_every: AtLeast1 = 500
    """After so many verdicts the known actions are tried again."""
    memory_gib: Positive | None = 8.0
    """Memory that a verifier may take; more gives no verdict. None: no limit."""

    def __post_init__(self) -> None:
        check(self)


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
        self._guards: list[_Guard] = []
        bound = verifier if policy is None else bind(verifier, policy)
        self._verifier = self._guarded(bound)
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

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        if self._num_verdicts and self._num_verdicts % self._options.canary_every == 0:
            for canary in self._canaries:
                known_pass, known_fail = self._try(canary)
                if known_pass.outcome != "pass" and known_fail.outcome != "fail":
                    raise self._broken(canary, known_pass, known_fail)
        self._num_verdicts += 1
        return self._verifier(turn, action)

    def _guarded(self, verifier: Any) -> Verifier:
        if not _in_process(verifier):
            self._guards.append(_Guard(verifier, self._options))
            return self._guards[-1]
        if parts := _parts(verifier):
            guarded: Verifier = dataclasses.replace(verifier, verifiers=tuple(map(self._guarded, parts)))
            return guarded
        return verifier  # type: ignore[no-any-return]

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


class _Guard:
    """A verifier in a child. Trajectories are sent once and then named by a number."""

    def __init__(self, verifier: Verifier, options: VerificationOptions) -> None:
        self._timeout = options.timeout_seconds
        self._child = Killable(_Answers(verifier), options.memory_gib)
        self._known: OrderedDict[int, tuple[Trajectory, int]] = OrderedDict()  # id -> itself, so that the id stays its
        self._lock = Lock()

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        with self._lock:
            number, new = self._number(turn.trajectory)
            request = _Request(number=number, index=turn.index, action=action, trajectory=new)
            try:
                line = request.model_dump_json(exclude_defaults=True).encode()
                reply = _Reply.model_validate_json(self._child.ask(line, self._timeout))
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

    def _number(self, trajectory: Trajectory) -> tuple[int, Trajectory | None]:
        if not self._child.running:
            self._known.clear()
        if (key := id(trajectory)) in self._known:
            self._known.move_to_end(key)
            return self._known[key][1], None
        number = self._known.popitem(last=False)[1][1] if len(self._known) == _MAX_KNOWN else len(self._known)
        self._known[key] = trajectory, number
        return number, trajectory

    def close(self) -> None:
        self._child.close()


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


def bind(verifier: Any, policy: Sampler) -> Verifier:
    """The verifier, and each part of a combination, with the policy that it asks for (``with_policy``)."""
    if hasattr(verifier, "with_policy"):
        return verifier.with_policy(policy)  # type: ignore[no-any-return]
    if parts := _parts(verifier):
        bound: Verifier = dataclasses.replace(verifier, verifiers=tuple(bind(part, policy) for part in parts))
        return bound
    return verifier  # type: ignore[no-any-return]


def needs_policy(verifier: Any) -> bool:
    """Whether it, or a part of it, plays on with a policy."""
    return hasattr(verifier, "with_policy") or any(map(needs_policy, _parts(verifier)))


def _in_process(verifier: Any) -> bool:
    if not hasattr(os, "fork"):
        return True
    own = getattr(verifier, "in_process", False) or getattr(getattr(verifier, "func", None), "in_process", False)
    return bool(own) or any(map(_in_process, _parts(verifier)))


def _parts(verifier: Any) -> tuple[Any, ...]:
    """What a combination consists of."""
    return verifier.verifiers if dataclasses.is_dataclass(verifier) and hasattr(verifier, "verifiers") else ()


def _told(verdict: Verdict) -> str:
    details = f" {verdict.details}" if verdict.details else ""
    return f"{verdict.outcome.replace('_', ' ')} ({verdict.reason}{details})"
