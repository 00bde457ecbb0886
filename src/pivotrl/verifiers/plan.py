"""Functional equivalence by what is left to do: an action passes when it does the work of a remaining demonstrated one.

For tasks whose steps may come in another order, or in another way. The rest of the demonstration, from the turn on, is
a plan that succeeds; what it can do without is left out first. The action is executed in the restored state. If the
plan still succeeds after it with one step less, the action has done that step's work. An action that only looks passes
when it returns what a remaining look of the demonstration returns there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from pivotrl.environments import load_restore
from pivotrl.protocols import InputError, NotRestorable, Observation, Restore, Turn
from pivotrl.records import Action, Trajectory, Verdict

_MAX_REMEMBERED = 256
"""Turns whose plans are cached; the samples of a turn are judged one after another."""
_SANDBOX = "sandbox_failed"


class _Plan(NamedTuple):
    """What is left to do at a turn."""

    steps: tuple[Action, ...]
    """The actions without which the demonstration does not succeed, its last one included."""
    looks: tuple[Any, ...]
    """What each of its remaining looks returns in the turn's state, if it only looks there too."""


@dataclass(frozen=True, kw_only=True)
class RemainingPlan:
    """Passes an action that does the work of one of the demonstration's remaining actions.

    Args:
        environment: one whose module exports ``restore``, with its options: ``tau2``; in Python that function itself.
        success: the least final reward that counts as success.
    """

    environment: str | Restore
    success: float = 1.0
    _remembered: dict[str, tuple[Trajectory, _Plan | Verdict]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    judges_effects: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0.0 < self.success <= 1.0:
            raise InputError(f"plan needs a success in (0, 1], not {self.success}")

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        """Reasons: does_remaining_work, remaining_look, finishes; empty_action, no_effect, other_look, not_nearer,
        ends_without_success, or the environment's fault; and without a verdict demonstration_fails, sandbox_failed and
        those of :class:`NotRestorable`.

        Raises:
            InputError: there is no such environment, or it cannot restore turns.
        """
        if action.is_empty:
            return Verdict.failed("empty_action")
        restore = load_restore(self.environment) if isinstance(self.environment, str) else self.environment
        try:
            plan = self._plan(turn, restore)
            return plan if isinstance(plan, Verdict) else self._judge(restore, turn, action, plan)
        except NotRestorable as error:
            return Verdict.unknown(error.reason, error=error.detail)

    def _judge(self, restore: Restore, turn: Turn, action: Action, plan: _Plan) -> Verdict:
        with contextlib.closing(restore(turn)) as environment:
            before = environment.state()
            observation = environment.step(action)
            is_look = environment.state() == before
        if observation.fault:
            is_known = observation.fault != _SANDBOX
            return Verdict.failed(observation.fault) if is_known else Verdict.unknown(observation.fault)
        if observation.done:
            return Verdict.passed("finishes") if self._succeeds(observation) else Verdict.failed("ends_without_success")
        if is_look:
            if _returned(observation) in plan.looks:
                return Verdict.passed("remaining_look")
            return Verdict.failed("other_look" if any(_returned(observation)) else "no_effect")
        for number in range(len(plan.steps) - 1):  # the last one ends the episode
            if self._plays(restore, turn, [action, *plan.steps[:number], *plan.steps[number + 1 :]]):
                return Verdict.passed("does_remaining_work", num_left=len(plan.steps) - 1)
        return Verdict.failed("not_nearer")

    def _plan(self, turn: Turn, restore: Restore) -> _Plan | Verdict:
        known = self._remembered.get(turn.id)
        if known is not None and known[0] == turn.trajectory:
            return known[1]
        found = self._find_plan(turn, restore)
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.pop(next(iter(self._remembered)))
        self._remembered[turn.id] = turn.trajectory, found
        return found

    def _find_plan(self, turn: Turn, restore: Restore) -> _Plan | Verdict:
        steps = [
            Action(content=message.content, tool_calls=message.tool_calls)
            for message in turn.trajectory.messages[turn.index :]
            if message.role == "assistant"
        ]
        if not self._plays(restore, turn, steps):
            return Verdict.unknown("demonstration_fails")
        looks = [_looked(restore, turn, step) for step in _looks(restore, turn, steps[:-1])]
        for number in reversed(range(len(steps) - 1)):
            shorter = [*steps[:number], *steps[number + 1 :]]
            if self._plays(restore, turn, shorter):
                steps = shorter
        return _Plan(tuple(steps), tuple(answer for answer in looks if answer is not None))

    def _plays(self, restore: Restore, turn: Turn, actions: Sequence[Action]) -> bool:
        """Whether the actions, one after another from the turn's state, end the episode with success."""
        with contextlib.closing(restore(turn)) as environment:
            for action in actions:
                observation = environment.step(action)
                if observation.fault == _SANDBOX:
                    raise NotRestorable(_SANDBOX, observation.reason)
                if observation.done:
                    return self._succeeds(observation)
        return False

    def _succeeds(self, observation: Observation) -> bool:
        return observation.reward is not None and observation.reward >= self.success


def _looks(restore: Restore, turn: Turn, steps: Sequence[Action]) -> list[Action]:
    """The steps that only look at their place in the demonstration."""
    found = []
    with contextlib.closing(restore(turn)) as environment:
        for step in steps:
            before = environment.state()
            environment.step(step)
            if environment.state() == before:
                found.append(step)
    return found


def _looked(restore: Restore, turn: Turn, action: Action) -> Any:
    """What the action returns in the turn's state; None if it does more than look there, or cannot be executed."""
    with contextlib.closing(restore(turn)) as environment:
        before = environment.state()
        observation = environment.step(action)
        is_look = not observation.done and not observation.fault and environment.state() == before
        return _returned(observation) if is_look else None


def _returned(observation: Observation) -> Any:
    if observation.returned is not None:
        return observation.returned
    return [message.content for message in observation.messages]


verify = RemainingPlan
