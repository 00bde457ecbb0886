"""Functional equivalence in TextWorld: a command passes when it shortens the way to the end.

The state is restored, and the oracle's plan is compared before and after the command. Other orders of independent
quests and other wordings therefore count as equal; looking around, detours and undoing do not pass. Only the command is
judged: a thought before it, JSON or backticks around it do not matter.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Literal, NamedTuple

from pivotrl.environments.textworld import executable, restore, shown
from pivotrl.protocols import NotRestorable, Turn
from pivotrl.reading.formats.textworld_games import Game, Play, playing
from pivotrl.records import Action, Verdict
from pivotrl.text.game_commands import NoCommand


class _State(NamedTuple):
    """A state with every legal command judged."""

    plan: tuple[str, ...]
    remaining: dict[str, int | None]
    """Moves that remain after each command; None if the game can then no longer be won."""


def verify(
    turn: Turn, action: Action, *, accepts: Literal["progress", "oracle"] = "progress", folder: str | None = None
) -> Verdict:
    """Pass when fewer moves remain after the action's command.

    Args:
        accepts: progress: every command that shortens the plan. oracle: only the next command of the oracle's plan.
        folder: where games are kept.

    Reasons: nearer, wins; empty_action, no_command, several_commands, too_long, not_listed, tool_call, no_effect,
    not_nearer, unwinnable, not_the_oracles; and without a verdict no_plan_from_state and those of
    :class:`NotRestorable`.
    """
    if action.is_empty:
        return Verdict.failed("empty_action")
    try:
        game, commands, done = shown(turn)
        state = _known(turn, game, done, folder)
    except NotRestorable as error:
        return Verdict.unknown(error.reason, error=error.detail)
    if not state.plan:
        return Verdict.unknown("no_plan_from_state")
    try:
        command = executable(action, commands, tuple(state.remaining))
    except NoCommand as error:
        return Verdict.failed(error.reason)
    before = len(state.plan)
    if accepts == "oracle":
        return Verdict.passed("nearer") if command == state.plan[0] else Verdict.failed("not_the_oracles")
    if command in state.remaining:
        after = state.remaining[command]
    else:
        changed, after = _worded(game, done, command, folder)
        if not changed:
            return Verdict.failed("no_effect")
    if after is None:
        return Verdict.failed("unwinnable", before=before)
    if after < before:
        return Verdict.passed("nearer" if after else "wins", before=before, after=after)
    return Verdict.failed("not_nearer", before=before, after=after)


_STATES: dict[tuple[str, str | None], tuple[str, _State]] = {}
"""(turn id, folder) -> (observation, state); the samples of a turn are judged one after another."""
_MAX_STATES = 4096


def _known(turn: Turn, game: Game, done: tuple[str, ...], folder: str | None) -> _State:
    text = str(turn.trajectory.messages[turn.index - 1].content)
    key = f"{game.name} {text}", folder
    known = _STATES.get(key)
    if known is not None:
        return known[1]
    with contextlib.closing(restore(turn, folder=folder)) as task:
        state = _State(task.play.plan, task.play.remaining())
    if len(_STATES) >= _MAX_STATES:
        _STATES.pop(next(iter(_STATES)))
    _STATES[key] = text, state
    return state


@functools.lru_cache(maxsize=4096)
def _worded(game: Game, done: tuple[str, ...], command: str, folder: str | None) -> tuple[bool, int | None]:
    """(whether the command changes anything, moves that remain) for a wording that only the game's parser knows."""
    with playing(game, folder) as play:
        for earlier in done:
            play.execute(earlier)
        changed = play.execute(command)
        return changed, _left(play)


def _left(play: Play) -> int | None:
    return 0 if play.won else len(play.plan) or None
