"""Functional equivalence in BFCL multi-turn: an action passes when it brings the user's request nearer to its end.

The state is restored by replay, and the action is done in it. Before and after, we count the fewest ground-truth calls
that must still be made, in their order, until the benchmark's own checkers would accept the request. So the order of
independent calls does not matter, several calls may be made at once, and calls that only look may stand beside them,
as the benchmark allows. A turn without a call passes when nothing is missing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from pivotrl.environments.bfcl import MAX_TURNS, BfclTask, restore
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

        Reasons: nearer, finished, same_effects (as the demonstrated action, where the benchmark needs none of its
        calls); empty_action, not_executed, not_nearer, spoiled (the request can no longer be fulfilled with the
        ground truth), stopped_early, force_terminated; and without a verdict not_fulfillable (before the action
        already), and those of :class:`NotRestorable`.
        """
        if action.is_empty:
            return Verdict.failed("empty_action")
        try:
            environment = restore(turn, max_turns=self.max_turns)
        except NotRestorable as error:
            return Verdict.unknown(error.reason, error=error.detail)
        before = missing_calls(environment)
        if before is None:
            return Verdict.unknown("not_fulfillable")
        if not environment.calls(action):
            return Verdict.failed("stopped_early", missing=before) if before else Verdict.passed("finished")
        observation = environment.step(action)
        if observation.fault:
            return Verdict.failed(observation.fault)
        if observation.done:
            return Verdict.failed(observation.reason)
        after = missing_calls(environment)
        if after is not None and after < before:
            return Verdict.passed("nearer", missing=after)
        if self._does_the_same(turn, environment):
            return Verdict.passed("same_effects")
        return Verdict.failed("spoiled" if after is None else "not_nearer", missing=before)

    def _does_the_same(self, turn: Turn, environment: BfclTask) -> bool:
        if turn.index >= len(turn.trajectory.messages):
            return False  # still to be played: nothing was demonstrated
        other = restore(turn, max_turns=self.max_turns)
        other.step(turn.expected_action)
        return other.state() == environment.state() and other.backend.results == environment.backend.results


def missing_calls(environment: BfclTask) -> int | None:
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
                return count
    return None


verify = Progress
