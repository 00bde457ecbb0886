"""Functional equivalence by running: an action passes when it has the effects of the demonstrated one.

Both are executed from the same restored state, each in a copy of its own, and what comes back is compared: the returned
value, the state afterwards, whether the episode ends, and its reward.

Equal effects in one state are not enough where the demonstrated action only looks: whoever knows the answer can print
it, and another question may happen to have the same answer. There both are also executed in the environment's control
states, which differ from the real one: where the demonstration's answer changes, the action's must change too, and
where both still work (all that they return but text is as before), the answers must be equal.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from pivotrl.environments import load_restore
from pivotrl.protocols import InputError, NotRestorable, Observation, Restore, RestoredEnvironment, Turn
from pivotrl.records import Action, Trajectory, Verdict

Output = Literal["exact", "stripped", "ignored"]

_UNDECIDED = frozenset({"time_limit", "killed", "sandbox_failed", "not_deterministic"})
"""Faults that say nothing about an action's effects."""
_MAX_REMEMBERED = 256
"""Turns whose demonstrated effects are cached; the samples of a turn are judged one after another."""


class _Answer(NamedTuple):
    """What an action returns in a control state, or the fault there."""

    returned: Any
    is_comparable: bool


@dataclass(frozen=True)
class _Effect:
    """What an action did."""

    returned: Any
    state: Any
    done: bool
    reward: float | None
    looks: bool = field(compare=False)
    """It left the state as it was and did not end the episode."""
    elsewhere: tuple[_Answer, ...] = field(default=(), compare=False)
    """In each control state."""

    @property
    def is_nothing(self) -> bool:
        """Most actions return an exit code; it does not distinguish them."""
        return self.looks and not _has_text(self.returned)


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Executes the action and the demonstrated one, and compares their effects.

    Args:
        environment: one whose module exports ``restore``, with its options: ``shell(root='tasks')``; in Python that
            function itself.
        repeats: how often each action is run, each time in a new copy, to detect non-deterministic actions.
        output: how returned text is compared. ``exact``; ``stripped``: blanks at the ends of lines and empty lines do
            not count; ``ignored``: text does not count at all, the other values and the state do.
    """

    environment: str | Restore
    repeats: int = 2
    output: Output = "exact"
    _remembered: dict[str, tuple[Trajectory, list[_Effect] | Verdict]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    judges_effects: ClassVar[bool] = True
    in_process: ClassVar[bool] = True
    """Its commands have their own time limits, and together may take longer than other verdicts."""

    def __post_init__(self) -> None:
        if self.repeats < 2:
            raise InputError(f"execute needs repeats >= 2 to detect non-deterministic actions, not {self.repeats}")
        if self.output not in ("exact", "stripped", "ignored"):
            raise InputError(f"execute has no output rule {self.output!r}; there are 'exact', 'stripped' and 'ignored'")

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        """Pass when the action's effects equal those of an accepted action.

        Reasons: same_effects; empty_action, not_executed, output_truncated, different_return, different_state,
        different_end, different_reward, independent_of_state, different_elsewhere; and without a verdict
        no_expected_action, not_deterministic, time_limit, killed, sandbox_failed, those of :class:`NotRestorable`,
        and about the demonstrated action expected_without_effect, expected_replay_differs, or one of these codes
        after ``expected_``.

        Raises:
            InputError: there is no such environment, or it cannot restore turns.
        """
        if turn.expected_action.is_empty:
            return Verdict.unknown("no_expected_action")
        if action.is_empty:
            return Verdict.failed("empty_action")
        restore = load_restore(self.environment) if isinstance(self.environment, str) else self.environment
        try:
            accepted = self._accepted(turn, restore)
            if isinstance(accepted, Verdict):
                return accepted
            effect = self._run(restore, turn, action, accepted)
        except NotRestorable as error:
            return Verdict.unknown(error.reason, error=error.detail)
        if isinstance(effect, str):
            return Verdict.unknown(effect) if effect in _UNDECIDED else Verdict.failed(effect)
        differences = [_difference(wanted, effect) for wanted in accepted]
        return Verdict.passed("same_effects") if None in differences else Verdict.failed(str(differences[0]))

    def _accepted(self, turn: Turn, restore: Restore) -> list[_Effect] | Verdict:
        """The effects of the accepted actions, or why there is nothing to compare with."""
        known = self._remembered.get(turn.id)
        if known is not None and known[0] == turn.trajectory:
            return known[1]
        found = self._find_accepted(turn, restore)
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.pop(next(iter(self._remembered)))
        self._remembered[turn.id] = turn.trajectory, found
        return found

    def _find_accepted(self, turn: Turn, restore: Restore) -> list[_Effect] | Verdict:
        effects = [self._run(restore, turn, action) for action in turn.accepted_actions]
        first = effects[0]
        if isinstance(first, str):
            return Verdict.unknown(f"expected_{first}")
        if not _is_as_logged(turn, restore, first):
            return Verdict.unknown("expected_replay_differs")
        if first.is_nothing:
            return Verdict.unknown("expected_without_effect")
        return [effect for effect in effects if isinstance(effect, _Effect) and not effect.is_nothing]

    def _run(
        self, restore: Restore, turn: Turn, action: Action, wanted: Sequence[_Effect] | None = None
    ) -> _Effect | str:
        """The action's effects, or the code for why they are unknown. The control states are left out where the
        effect is none of those ``wanted``."""
        first: _Effect | None = None
        for number in range(1, self.repeats + 1):
            with contextlib.closing(restore(turn)) as environment:
                before = None if first else environment.state()
                observation = environment.step(action)
                if observation.fault:
                    return observation.fault
                state, returned = environment.state(), _comparable(_returned(observation), self.output)
                looks = first.looks if first else state == before and not observation.done
                effect = _Effect(returned, state, observation.done, observation.reward, looks)
                if first and effect != first:
                    return "not_deterministic"
                first = effect
                if number == self.repeats and looks and (wanted is None or effect in wanted):
                    return dataclasses.replace(effect, elsewhere=tuple(self._elsewhere(environment, action)))
        assert first is not None
        return first

    def _elsewhere(self, environment: RestoredEnvironment, action: Action) -> Iterator[_Answer]:
        for control, is_comparable in environment.controls():
            with contextlib.closing(control):
                observation = control.step(action)
                yield _Answer(observation.fault or _comparable(_returned(observation), self.output), is_comparable)


def _is_as_logged(turn: Turn, restore: Restore, effect: _Effect) -> bool:
    """Whether the demonstrated action leads to the state in which the log continues."""
    messages = turn.trajectory.messages
    after = [i for i in range(turn.index + 1, len(messages)) if messages[i].role == "assistant"]
    if len(messages) == turn.index + 1 or effect.done:
        return True  # the log ends here
    try:
        with contextlib.closing(restore(Turn(turn.trajectory, after[0] if after else len(messages)))) as environment:
            return bool(environment.state() == effect.state)
    except NotRestorable:
        return False


def _difference(wanted: _Effect, effect: _Effect) -> str | None:
    """The code of the first difference; None if the effects are the same."""
    if effect.returned != wanted.returned:
        return "different_return"
    if effect.state != wanted.state:
        return "different_state"
    if effect.done != wanted.done:
        return "different_end"
    if effect.reward != wanted.reward:
        return "different_reward"
    works = _comparable(wanted.returned, "ignored")
    for expected, found in zip(wanted.elsewhere, effect.elsewhere, strict=True) if wanted.looks else ():
        if expected.returned != wanted.returned and found.returned == effect.returned:
            return "independent_of_state"
        both_work = all(_comparable(answer.returned, "ignored") == works for answer in (expected, found))
        if expected.is_comparable and both_work and expected.returned != found.returned:
            return "different_elsewhere"
    return None


def _returned(observation: Observation) -> Any:
    if observation.returned is not None:
        return observation.returned
    return [message.content for message in observation.messages]


def _comparable(value: Any, output: Output) -> Any:
    """A JSON value with its texts as the rule wants them."""
    if isinstance(value, str):
        if output == "ignored":
            return ""
        return value if output == "exact" else "\n".join(line.rstrip() for line in value.splitlines() if line.strip())
    if isinstance(value, list):
        return [_comparable(item, output) for item in value]
    if isinstance(value, dict):
        return {key: _comparable(item, output) for key, item in value.items()}
    return value


def _has_text(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, list | dict):
        return any(map(_has_text, value.values() if isinstance(value, dict) else value))
    return False


verify = Execution
