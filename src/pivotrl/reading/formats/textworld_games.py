"""TextWorld games (MIT): named by their options and seed, generated when needed, played command by command.

A game's name says all that makes it: ``tw-r4o8l4-17`` has 4 rooms, 8 objects, one quest of 4 moves, and seed 17.
``q3`` stands for three quests, which may be solved in any order, and ``g`` for a task that names only the goals.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import textworld
from pydantic import Field
from textworld.generator import compile_game, make_game
from textworld.generator.inform7 import Inform7Game

from pivotrl.options import AtLeast1, check
from pivotrl.protocols import InputError

_NAME = re.compile(r"tw-r(\d{1,3})o(\d{1,3})l(\d{1,3})(?:q(\d{1,3}))?(g?)-(\d{1,9})")
_INFOS = textworld.EnvInfos(
    **dict.fromkeys(
        ("admissible_commands", "policy_commands", "objective", "description", "won", "lost"),
        True,
    )
)
_LOOKING = ("examine ", "look", "inventory")
"""Commands that only look; they are legal but not offered."""
_EPILOGUE = re.compile(
    r"\s*(?:Once that's all handled, you can stop!|And once you've done that, you win!|"
    r"And if you do that, you're the winner!|That's it!|Got that\? Good!|Alright, thanks!)\s*$"
)
_PROLOGUE = re.compile(r"^.*!\s+|^Here is your task for today\.\s*|^Hey, thanks for [^.]* for me\.\s*")


@dataclass(frozen=True)
class Game:
    """What makes a game."""

    seed: Annotated[int, Field(ge=0, le=999_999_999)]
    rooms: AtLeast1 = 4
    objects: AtLeast1 = 8
    quest_length: AtLeast1 = 4
    """Moves of each quest."""
    quests: AtLeast1 = 1
    """Quests that do not depend on each other."""
    objective: Literal["steps", "goal"] = "steps"
    """steps: the task names every move. goal: it names only what to achieve."""

    def __post_init__(self) -> None:
        check(self)

    @property
    def name(self) -> str:
        quests = f"q{self.quests}" if self.quests > 1 else ""
        goal = "g" if self.objective == "goal" else ""
        return f"tw-r{self.rooms}o{self.objects}l{self.quest_length}{quests}{goal}-{self.seed}"

    def with_seeds(self, first: int, count: int) -> list[Game]:
        """The games of ``count`` seeds from ``first`` on."""
        return [replace(self, seed=seed) for seed in range(first, first + count)]


def named(name: str) -> Game:
    """The game of a name.

    Raises:
        ValueError: the text is not the name of a game.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!r:.80} is not the name of a TextWorld game, such as tw-r4o8l4-17")
    rooms, objects, length, quests, goal, seed = found.groups()
    options = {"rooms": int(rooms), "objects": int(objects), "quest_length": int(length), "quests": int(quests or 1)}
    try:
        return Game(seed=int(seed), objective="goal" if goal else "steps", **options)
    except InputError as error:
        raise ValueError(str(error)) from error


def games_folder(folder: str | Path | None = None) -> Path:
    """Where games are kept: ``folder``, or below ``$PIVOTRL_CACHE``, or below ``~/.cache/pivotrl``. Each version of
    textworld has a folder of its own there, since it may make other games of the same seed."""
    cache = Path(os.environ.get("PIVOTRL_CACHE") or Path.home() / ".cache" / "pivotrl")
    return Path(folder or cache / "textworld") / str(textworld.__version__)


def game_file(game: Game, folder: str | Path | None = None, parser: bool = False) -> Path:
    """The file of a game, generated if it is not there yet: half a second for its logic, a second for a compiled game.

    Several processes may ask for the same game at once, and a killed one leaves no part of a game under its name.

    Raises:
        InputError: textworld cannot make such a game, or the folder cannot be written.
    """
    place = games_folder(folder) / (f"{game.name}.z8" if parser else game.name)
    path = place / ("game.z8" if parser else "game.json")
    if path.is_file():
        return path
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{game.name}.", dir=place.parent) as scratch:
            made = Path(scratch, "game")
            made.mkdir()
            _generate(game, made, parser)
            with contextlib.suppress(OSError):  # another process was faster; its game is the same
                made.rename(place)
    except OSError as error:
        raise InputError(f"{place.parent}: the game cannot be written ({error}); name another folder") from error
    if not path.is_file():
        raise InputError(f"{place} is not a game; remove it, and it is generated again")
    return path


def _generate(game: Game, place: Path, parser: bool) -> None:
    options = textworld.GameOptions()
    options.nb_rooms, options.nb_objects = game.rooms, game.objects
    options.quest_length, options.nb_parallel_quests = game.quest_length, game.quests
    options.grammar.only_last_action = game.objective == "goal"
    options.seeds, options.path = game.seed, str(place / "game.z8")
    try:
        made = make_game(options)
        made.save(str(place / "game.json"))
        if parser:
            compile_game(made, options)
    except OSError:
        raise
    except Exception as error:  # textworld has no class of its own for options that do not fit together
        raise InputError(
            f"textworld cannot make {game.name} ({type(error).__name__}: {error}); "
            "ask for more rooms, fewer quests or shorter ones"
        ) from error


class Play:
    """A game in progress. ``close`` it after use.

    Args:
        parser: play the compiled game, whose parser reads any wording and which describes rooms; without it textworld
            plays the game's logic, which knows only the legal commands and takes a tenth of the time.

    Raises:
        InputError: as :func:`game_file`.
    """

    def __init__(self, game: Game, folder: str | Path | None = None, parser: bool = False) -> None:
        self._environment = textworld.start(str(game_file(game, folder, parser)), request_infos=_INFOS)
        self._parser = parser
        self._state = self._environment.reset()
        quests = [quest.desc for quest in self._state["game"].quests] if game.objective == "goal" else []
        self.objective = " ".join(map(_task, quests or [self._state.objective]))
        self.answer = ""

    def execute(self, command: str) -> str | None:
        """Give the game a command. Returns it in the game's own wording; None if it changed nothing."""
        before = self.facts
        self._state, _, _ = self._environment.step(command)
        self.answer = _flowing(re.split(r"\n\s*>", self._state.feedback or "")[0]) if self._parser else ""
        if self.facts == before:
            return None
        (text,) = Inform7Game(self._state["game"]).gen_commands_from_actions([self._state["_last_action"]])
        return str(text)

    @property
    def commands(self) -> tuple[str, ...]:
        """The legal commands in the game's own wording, sorted, without those that only look."""
        return tuple(c for c in self._state.admissible_commands if not c.startswith(_LOOKING))

    @property
    def plan(self) -> tuple[str, ...]:
        """The commands by which the oracle would win from here; empty if the game is over or lost."""
        return tuple(self._state.policy_commands)

    @property
    def won(self) -> bool:
        return bool(self._state.won)

    @property
    def over(self) -> bool:
        """Won, lost, or no longer winnable."""
        return bool(self._state.won or self._state.lost or not self._state.policy_commands)

    @property
    def facts(self) -> list[str]:
        """The whole state as sorted texts, such as ``at(o_0, r_1)``."""
        return sorted(map(str, self._state["_facts"]))

    @property
    def description(self) -> str:
        """The room and what is seen in it, as one line; empty without the parser."""
        return re.sub(r"^-= (.*?) =- ", r"\1. ", _flowing(self._state.description))

    @property
    def inventory(self) -> tuple[str, ...]:
        """Names of the things carried, sorted."""
        game = self._state["game"]
        carried = [f.arguments[0].name for f in self._state["_facts"] if f.name == "in" and f.arguments[1].type == "I"]
        return tuple(sorted(str(game.infos[name].name) for name in carried))

    def remaining(self) -> dict[str, int | None]:
        """Moves that remain after each legal command: 0 if it wins, None if the game can then no longer be won.

        Computed in the game's logic, without the interpreter.
        """
        progress: Any = self._state["_game_progression"]
        texts = Inform7Game(self._state["game"]).gen_commands_from_actions(progress.valid_actions)
        found: dict[str, int | None] = {}
        for text, action in sorted(zip(texts, progress.valid_actions, strict=True), key=lambda pair: str(pair[0])):
            after = copy.copy(progress)  # its own copy and update find all legal actions first, which takes longest
            after.state, after.quest_progressions = (
                progress.state.copy(),
                [q.copy() for q in progress.quest_progressions],
            )
            after.state.apply(action)
            for quest in after.quest_progressions:
                quest.update(action, after.state)
            policy = after.winning_policy
            found[text] = 0 if after.completed else len(policy) if policy else None
        return {command: found[command] for command in self.commands}

    def close(self) -> None:
        self._environment.close()


@contextlib.contextmanager
def playing(game: Game, folder: str | Path | None = None, parser: bool = False) -> Iterator[Play]:
    play = Play(game, folder, parser)
    try:
        yield play
    finally:
        play.close()


def _flowing(text: str | None) -> str:
    return " ".join((text or "").split())


@functools.lru_cache(maxsize=1024)
def _task(objective: str) -> str:
    """The objective without its greeting and its farewell."""
    text = _EPILOGUE.sub("", _flowing(objective))
    while (shorter := _PROLOGUE.sub("", text)) != text:
        text = shorter
    return text[:1].upper() + text[1:]
