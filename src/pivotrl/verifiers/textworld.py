"""Functional equivalence in TextWorld: a command passes when it shortens the way to the end.

The state is restored, and the oracle's plan is compared before and after the command. Other orders of independent
quests and other wordings therefore count as equal; looking around, detours and undoing do not pass. Only the command is
judged: a thought before it, JSON or backticks around it do not matter.
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

from pivotrl.environments.textworld import agrees, executable, shown
from pivotrl.protocols import NotRestorable, Turn
from pivotrl.reading.formats.textworld_games import Game, playing
from pivotrl.records import Action, Verdict
from pivotrl.text.game_commands import NoCommand


class _State(NamedTuple):
    """A state with every legal command judged."""

    objective: str
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
    not_nearer, unwinnable, not_the_oracles; and without a verdict not_a_textworld_turn, replay_differs (the game does
    not show what the turn shows), no_plan_from_state.
    """
    if action.is_empty:
        return Verdict.failed("empty_action")
    try:
        game, commands, done = shown(turn)
        state = _state(game, done, folder)
    except NotRestorable as error:
        return Verdict.unknown(error.reason, error=error.detail)
    if state is None or not agrees(turn, state.objective, tuple(state.remaining)):
        return Verdict.unknown("replay_differs")
    if not state.plan:
        return Verdict.unknown("no_plan_from_state")
    try:
        command: str | None = executable(action, commands, tuple(state.remaining))
    except NoCommand as error:
        return Verdict.failed(error.reason)
    if command not in state.remaining:
        command = _in_other_words(game, done, command, folder)
    if command not in state.remaining:
        return Verdict.failed("no_effect")
    if accepts == "oracle":
        return Verdict.passed("nearer") if command == state.plan[0] else Verdict.failed("not_the_oracles")
    before, after = len(state.plan), state.remaining[command]
    if after is None:
        return Verdict.failed("unwinnable", before=before)
    if after < before:
        return Verdict.passed("nearer" if after else "wins", before=before, after=after)
    return Verdict.failed("not_nearer", before=before, after=after)


@functools.lru_cache(maxsize=4096)
def _state(game: Game, done: tuple[str, ...], folder: str | None) -> _State | None:
    """The state after these commands; None if one of them is not possible at its place."""
    with playing(game, folder) as play:
        if not all(map(play.execute, done)):
            return None
        return _State(play.objective, play.plan, play.remaining())


@functools.lru_cache(maxsize=4096)
def _in_other_words(game: Game, done: tuple[str, ...], command: str, folder: str | None) -> str | None:
    """The game's own wording of a command that only its parser knows; None if it changes nothing."""
    with playing(game, folder, parser=True) as play:
        for earlier in done:
            play.execute(earlier)
        return play.execute(command)
