"""TextWorld (MIT): quests in small generated worlds, one command per turn, text in and text out.

An observation says what was done so far, so any recorded turn can be restored exactly by playing those commands again
in the same game. The first messages are a system line and three example exchanges, which every context keeps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from pivotrl.options import AtLeast1
from pivotrl.protocols import InputError, NotRestorable, Observation, Turn
from pivotrl.reading.formats.textworld_games import Game, Play, named
from pivotrl.records import Action, Message
from pivotrl.text.game_commands import NoCommand, find_command, names_several
from pivotrl.text.walked_map import map_view, walk

Commands = Literal["listed", "free"]
NotNegativeInt = Annotated[int, Field(ge=0)]

SYSTEM = {
    "listed": "You play a text game. Reply with one command from the list, the one that does the task's next step.",
    "free": "You play a text game. Reply with one short command, the one that does the task's next step.",
}
_DONE = re.compile(r"^Done so far: (.*)$", re.MULTILINE)
_ANSWER = re.compile(r"^The game answers: .*\n?", re.MULTILINE)
_LIST = "Commands:\n"

_EXAMPLES = (
    (
        "Task: First, take the rope from the hook. Then, go to the west. After that, put the rope into the sack.",
        "nothing",
        "Boathouse. There is a hook on the wall. On the hook you see a rope. There is an exit to the west.",
        "You are carrying: a candle.",
        ("drop candle", "go west", "put candle on hook", "take rope from hook"),
        "take rope from hook",
    ),
    (
        "Task: Open the iron gate. Next, travel south and eat the pear.",
        "open iron gate",
        "Courtyard. There is an open iron gate leading south. There is a brush on the floor.",
        "You are carrying: a pear.",
        ("close iron gate", "drop pear", "eat pear", "go south", "take brush"),
        "go south",
    ),
    (
        "Task: Unlock the cupboard with the brass key. Once that is done, open the cupboard and take the plate.",
        "unlock cupboard with brass key; open cupboard",
        "Pantry. You see an opened cupboard. The cupboard contains a plate. There is an exit to the north.",
        "You are carrying: a brass key.",
        ("close cupboard", "drop brass key", "go north", "insert brass key into cupboard", "take plate from cupboard"),
        "take plate from cupboard",
    ),
)
"""(task, done, room, inventory, commands, answer)"""


def first_messages(commands: Commands) -> tuple[Message, ...]:
    """The messages that every context keeps: the system line and the example exchanges."""
    messages = [Message(role="system", content=SYSTEM[commands])]
    for task, done, room, inventory, listed, answer in _EXAMPLES:
        shown = _LIST + "\n".join(listed) if commands == "listed" else room
        parts = [task, f"Done so far: {done}", inventory, shown]
        messages += [Message(role="user", content="\n".join(parts)), Message(role="assistant", content=answer)]
    return tuple(messages)


class TextWorldTask:
    """One game as an environment. It is closed when the game has ended.

    Args:
        game: the game.
        commands: listed: an observation lists the possible commands, and only those are executed. free: it describes
            the room instead, and the game's parser reads any wording.
        max_turns: the episode fails after this number of turns; None: the oracle's moves and ``spare_turns``.
        spare_turns: how many turns more than the oracle's there are; 0 allows no detour.
        folder: where games are kept (:func:`pivotrl.reading.formats.textworld_games.games_folder`).
    """

    context_window: int | None = 1

    def __init__(
        self,
        game: Game,
        commands: Commands = "listed",
        max_turns: int | None = None,
        spare_turns: int = 6,
        folder: str | None = None,
    ) -> None:
        self.task_id, self.game, self.commands = game.name, game, commands
        self.tags = {"quests": str(game.quests), "quest_length": str(game.quest_length)}
        self.pinned_messages = len(first_messages(commands))
        self._max_turns, self._spare_turns, self._folder = max_turns, spare_turns, folder
        self._play: Play | None = None

    @property
    def play(self) -> Play:
        assert self._play is not None, "reset it first"
        return self._play

    def reset(self) -> tuple[Message, ...]:
        """Raises:
        InputError: textworld cannot make the game.
        """
        self.close()
        self._play = Play(self.game, self._folder, parser=self.commands == "free")
        self.done: list[str] = []
        self.num_turns, self._answer = 0, ""
        self._limit = self._max_turns or len(self.play.plan) + self._spare_turns
        return (*first_messages(self.commands), Message(role="user", content=self.text()))

    def text(self) -> str:
        """The observation."""
        play = self.play
        lines = [f"Task: {play.objective}", f"Done so far: {'; '.join(self.done) or 'nothing'}"]
        if self._answer:
            lines.append(f"The game answers: {self._answer}")
        lines.append(f"You are carrying: {', '.join(play.inventory) or 'nothing'}.")
        lines.append(_LIST + "\n".join(play.commands) if self.commands == "listed" else play.description)
        return "\n".join(lines)

    def step(self, action: Action) -> Observation:
        self.num_turns += 1
        fault = ""
        try:
            self._execute(executable(action, self.commands, self.play.commands))
        except NoCommand:
            self._answer, fault = "That is not a possible command.", "not_executed"
        if self.play.over:
            reason = "won" if self.play.won else "lost"
            last = Message(role="user", content=f"The game is {reason}.")
            return Observation((last,), float(self.play.won), True, reason, self.play.answer, fault)
        messages = (Message(role="user", content=self.text()),)
        if self.num_turns >= self._limit:
            return Observation(messages, 0.0, True, "too_many_turns", self._answer, fault)
        return Observation(messages, returned=self._answer, fault=fault)

    def _execute(self, command: str) -> None:
        executed = self.play.execute(command)
        self._answer = "" if executed else self.play.answer
        if executed:
            self.done.append(executed)

    def state(self) -> list[str]:
        """The facts of the world, sorted."""
        return self.play.facts

    def controls(self) -> Iterator[tuple[TextWorldTask, bool]]:
        return iter(())  # a command cannot print what the agent knows, so equal answers mean equal looks

    def close(self) -> None:
        if self._play is not None:
            self._play.close()
            self._play = None


def executable(action: Action, commands: Commands, listed: Sequence[str]) -> str:
    """The action's command as the game is given it.

    Raises:
        NoCommand: as :func:`find_command`, or ``not_listed``; ``tool_call``: the agent must answer in text;
            ``copied_observation``.
    """
    if action.tool_calls:
        raise NoCommand("tool_call")
    if _DONE.search(action.content or ""):
        raise NoCommand("copied_observation")
    command = find_command(action.content)
    known = {name.casefold(): name for name in listed}.get(command.casefold())
    if known is None and commands == "listed":
        raise NoCommand("not_listed")
    if known is None and names_several(command):
        raise NoCommand("several_commands")
    return known or command.lower()


def restore(
    turn: Turn, *, max_turns: AtLeast1 | None = None, spare_turns: NotNegativeInt = 6, folder: str | None = None
) -> TextWorldTask:
    """The game as the turn's agent saw it. For options see :class:`TextWorldTask`; earlier turns count towards the
    limit.

    Raises:
        NotRestorable: ``not_a_textworld_turn``; ``replay_differs``: the game does not show now what is logged.
        InputError: textworld cannot make the game.
    """
    game, commands, done = shown(turn)
    task = TextWorldTask(game, commands, max_turns, spare_turns, folder)
    task.reset()
    for command in done:
        task._execute(command)
    before, text = turn.trajectory.messages[turn.trajectory.pinned_messages : turn.index], _latest(turn)
    if _ANSWER.sub("", text) != _ANSWER.sub("", task.text()):
        task.close()
        raise NotRestorable("replay_differs", f"{turn.id} shows another state than {game.name} after {list(done)}")
    task._answer = next((line.partition(": ")[2].strip() for line in _ANSWER.findall(text)), "")
    task.num_turns = sum(message.role == "assistant" for message in before)
    return task


def shown(turn: Turn) -> tuple[Game, Commands, tuple[str, ...]]:
    """(game, how commands are given, commands done so far) of a turn.

    Raises:
        NotRestorable: ``not_a_textworld_turn``.
    """
    text, name = _latest(turn), turn.trajectory.metadata.get("game", turn.trajectory.task_id)
    done = _DONE.search(text)
    try:
        game = named(str(name))
    except ValueError as error:
        raise NotRestorable("not_a_textworld_turn", str(error)) from error
    if done is None:
        raise NotRestorable("not_a_textworld_turn", "the observation does not say what was done so far")
    told = tuple(done.group(1).split("; ")) if done.group(1) != "nothing" else ()
    return game, "listed" if f"\n{_LIST}" in text else "free", told


def render_view(messages: Sequence[Message], metadata: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """A map of the rooms visited so far beside each observation, once there are two."""
    done = {index: _DONE.search(message.content or "") for index, message in enumerate(messages)}
    walks = {index: walk(found.group(1).split("; ")) for index, found in done.items() if found}
    return {index: map_view(places) for index, places in walks.items() if len(places) > 1}


def agrees(turn: Turn, objective: str, listed: Sequence[str]) -> bool:
    """Whether the turn shows this task and, if it lists commands, these."""
    text = _latest(turn)
    _, lists, commands = text.partition(f"\n{_LIST}")
    return text.startswith(f"Task: {objective}\n") and (not lists or commands == "\n".join(listed))


def _latest(turn: Turn) -> str:
    before = turn.trajectory.messages[: turn.index]
    return next((message.content or "" for message in reversed(before) if message.role == "user"), "")


class TextWorldTasks:
    """Games by name. For the other arguments see :class:`TextWorldTask`."""

    def __init__(
        self, games: Sequence[Game], commands: Commands, max_turns: int | None, spare_turns: int, folder: str | None
    ) -> None:
        self._games, self._options = {game.name: game for game in games}, (commands, max_turns, spare_turns, folder)

    def tasks(self) -> list[str]:
        return list(self._games)

    def make(self, task: str) -> TextWorldTask:
        return TextWorldTask(self._games[task], *self._options)


def make_environments(
    *,
    first: NotNegativeInt = 10_000,
    games: AtLeast1 = 24,
    rooms: AtLeast1 = 4,
    objects: AtLeast1 = 8,
    quest_length: AtLeast1 = 4,
    quests: AtLeast1 = 1,
    objective: Literal["steps", "goal"] = "steps",
    commands: Commands = "listed",
    max_turns: AtLeast1 | None = None,
    spare_turns: NotNegativeInt = 6,
    folder: str | None = None,
) -> TextWorldTasks:
    """The games of the seeds from ``first`` on, for episodes. Each is generated when it is first played.

    Args:
        first, games: the first seed, and how many.
        rooms, objects: size of the world.
        quest_length: moves of each quest.
        quests: quests that do not depend on each other.
        objective: steps: the task names every move. goal: it names only what to achieve.
        commands: listed: observations list the possible commands. free: the game's parser reads any wording.
        max_turns: the episode fails after this number of turns; None: the oracle's moves and ``spare_turns``.
        spare_turns: how many turns more than the oracle's there are; 0 allows no detour.
        folder: where games are kept; None: below the user's cache directory.
    """
    if first + games > 1_000_000_000:
        raise InputError(f"textworld: seeds have at most nine digits; first={first} with games={games} goes beyond")
    game = Game(seed=first, rooms=rooms, objects=objects, quest_length=quest_length, quests=quests, objective=objective)
    return TextWorldTasks(game.with_seeds(first, games), commands, max_turns, spare_turns, folder)
