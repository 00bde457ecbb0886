"""Functional equivalence in BFCL multi-turn: an action passes when it brings the user's request nearer to its end.

The state is restored by replay, and the action is done in it. Before and after, we count the fewest ground-truth calls
that must still be made, in their order, until the benchmark's own checkers would accept the request. So the order of
independent calls does not matter, several calls may be made at once, and calls that only look may stand beside them,
as the benchmark allows. What looks must give the same among altered files, too. A turn without a call passes when
nothing is missing, whatever its words.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pivotrl.environments.bfcl import MAX_TURNS, BfclTask, restore
from pivotrl.judging.bfcl_calls import Backend
from pivotrl.options import AtLeast1
from pivotrl.protocols import NotRestorable, Turn
from pivotrl.records import Action, ToolCall, Verdict

_MAX_COMBINED = 7
"""Requests of up to this many calls are searched in full: 128 ways. Of longer ones only the last calls are tried."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Counts the ground-truth calls that a request still needs.

    Args:
        max_turns: as for the environment.
    """

    max_turns: AtLeast1 = MAX_TURNS

    judges_effects: ClassVar[bool] = True

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        """Pass when fewer calls are missing than before, or when the request ends and none was.

        Reasons: nearer, finished, same_effects (exactly those of the demonstrated action); empty_action, not_executed,
        not_nearer, different_elsewhere (the same only by chance), spoiled (the ground truth can no longer fulfil the
        request), stopped_early, force_terminated; and without a verdict not_fulfillable (before the action already),
        and those of :class:`NotRestorable`.
        """
        if action.is_empty:
            return Verdict.failed("empty_action")
        try:
            environment = restore(turn, max_turns=self.max_turns)
        except NotRestorable as error:
            return Verdict.unknown(error.reason, error=error.detail)
        before, start = missing_calls(environment), environment.backend.copy()
        if before is None:
            return Verdict.unknown("not_fulfillable")
        calls = environment.calls(action)
        if not calls:
            return Verdict.failed("stopped_early", missing=len(before)) if before else Verdict.passed("finished")
        observation = environment.step(action)
        if observation.fault:
            return Verdict.failed(observation.fault)
        if observation.done:
            return Verdict.failed(observation.reason)
        after = missing_calls(environment)
        reason = "spoiled" if after is None else "not_nearer"
        if after is not None and len(after) < len(before):
            if _agree_elsewhere(start, calls, _without(before, after)):
                return Verdict.passed("nearer", missing=len(after))
            reason = "different_elsewhere"
        if self._does_the_same(turn, environment):
            return Verdict.passed("same_effects")
        return Verdict.failed(reason, missing=len(before))

    def _does_the_same(self, turn: Turn, environment: BfclTask) -> bool:
        if turn.index >= len(turn.trajectory.messages):
            return False  # still to be played: nothing was demonstrated
        other = restore(turn, max_turns=self.max_turns)
        other.step(turn.expected_action)
        return other.state() == environment.state() and other.backend.results == environment.backend.results


def missing_calls(environment: BfclTask) -> tuple[ToolCall, ...] | None:
    """Fewest ground-truth calls of the current request that must still be made; None if no choice of them helps."""
    truth, size = environment.truth, len(environment.truth.calls)
    for count in range(size + 1):
        choices: Iterable[tuple[ToolCall, ...]] = [truth.calls[size - count :]]
        if size <= _MAX_COMBINED:
            choices = itertools.combinations(truth.calls, count)
        for calls in choices:
            backend = environment.backend.copy()
            for call in calls:
                backend.call(call)
            if truth.fault(backend, environment.num_calls + count, environment.request) is None:
                return calls
    return None


def _without(calls: Sequence[ToolCall], others: Sequence[ToolCall]) -> list[ToolCall]:
    left = list(calls)
    for other in others:
        if other in left:
            left.remove(other)
    return left


def _agree_elsewhere(start: Backend, calls: Sequence[ToolCall], replaced: Sequence[ToolCall]) -> bool:
    """Whether the calls give what those that they replace give, among other files too: ``ls()`` shows what
    ``ls(a=True)`` does only where no file is hidden."""
    first, second = start.altered(), start.altered()
    found = Counter(first.call(call)[0] for call in calls)
    wanted = Counter(second.call(call)[0] for call in replaced)
    return not wanted - found


verify = Progress
