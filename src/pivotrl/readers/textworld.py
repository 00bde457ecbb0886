"""Demonstrations of TextWorld: players of four kinds really play the games of a range of seeds, and win.

- near: the oracle's commands, bare.
- far: the same decisions in another style: a thought, then the action as JSON.
- detours: wins with a habit that brings nothing. About a third of the moves pick up what lies about, or put it down.
- privileged: chooses among right commands by facts that no observation shows, such as what lies in other rooms.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pivotrl.environments.textworld import Commands, TextWorldTask
from pivotrl.options import AtLeast1
from pivotrl.protocols import InputError, Observation
from pivotrl.reading.formats.textworld_games import Game, Play, named
from pivotrl.records import Action, Message, Refusal, Trajectory

Demonstrator = Literal["near", "far", "detours", "privileged"]
_RANGE = re.compile(r"(\d{1,9})-(\d{1,9})")

_THOUGHTS = (
    (
        "Let me look at what I have to do and at what is behind me.",
        "Before I act I go through the task once more from the start.",
        "There are several steps here, and some of them may be finished.",
        "I should keep the order of the instructions in mind.",
        "Let me compare the task with the list of things I have done.",
    ),
    (
        "Many of the things I could do now do not bring me any closer.",
        "Whatever does not belong to the task can wait, so I leave it alone.",
        "What I carry and where I am decide what is possible at this point.",
        "Only a move that the instructions ask for is worth a turn.",
        "The steps that are behind me need not be repeated.",
    ),
    (
        "So this is the move that I choose.",
        "That settles what comes next.",
        "Therefore I take the following action.",
        "With that in mind, I do this now.",
        "Hence my next move.",
    ),
)
"""One sentence of each makes a thought."""


def read(
    path: Path,
    *,
    rooms: AtLeast1 = 4,
    objects: AtLeast1 = 8,
    quest_length: AtLeast1 = 4,
    quests: AtLeast1 = 1,
    objective: Literal["steps", "goal"] = "steps",
    commands: Commands = "listed",
    demonstrator: Demonstrator = "near",
    detour_share: Annotated[float, Field(ge=0, le=0.5)] = 0.35,
    folder: str | None = None,
) -> Iterator[Trajectory | Refusal]:
    """One won game per trajectory; a game that the player cannot win is refused.

    Args:
        path: the seeds of the games, first and last, such as ``0-119``; or a file with the name of a game on each line,
            such as ``tw-r4o8l4-17``, which says its options itself.
        rooms, objects: size of the world.
        quest_length: moves of each quest.
        quests: quests that do not depend on each other.
        objective: steps: the task names every move. goal: it names only what to achieve.
        commands: listed: observations list the possible commands. free: the game's parser reads any wording.
        demonstrator: who plays.
        detour_share: share of the moves that ``detours`` wastes.
        folder: where games are kept; None: below the user's cache directory.

    Raises:
        InputError: ``path`` is neither; or ``privileged`` would play as ``near`` does.
    """
    game = Game(seed=0, rooms=rooms, objects=objects, quest_length=quest_length, quests=quests, objective=objective)
    for each in _games(path, game):
        if demonstrator == "privileged" and each.quests == 1 and each.objective == "steps":
            raise InputError(
                f"textworld: in {each.name} the task names the one right move at every turn, so a privileged "
                "demonstrator knows nothing more; ask for quests=2 or objective='goal'"
            )
        with closing(TextWorldTask(each, commands, max_turns=1_000, folder=folder)) as task:
            yield _played(task, demonstrator, detour_share)


def _games(path: Path, game: Game) -> Iterator[Game]:
    seeds = _RANGE.fullmatch(str(path))
    if seeds and not path.is_file():
        first, last = map(int, seeds.groups())
        yield from game.with_seeds(first, last - first + 1)
        return
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is neither a range of seeds, such as 0-119, nor a file of games: {error}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield named(line.strip())
            except ValueError as error:
                raise InputError(f"{path}:{number}: {error}") from error


def _played(task: TextWorldTask, demonstrator: Demonstrator, detour_share: float) -> Trajectory | Refusal:
    messages, observation = list(task.reset()), Observation(())
    habit = _Habit(len(task.play.plan), detour_share if demonstrator == "detours" else 0.0)
    num_detours = 0
    while not observation.done:
        command = habit.next(task.play)
        num_detours += command is not None
        command = command or (_by_hidden_facts(task.play) if demonstrator == "privileged" else task.play.plan[0])
        text = _with_thought(command, f"{task.task_id}#{len(messages)}") if demonstrator == "far" else command
        observation = task.step(Action(content=text))
        messages += [Message(role="assistant", content=text), *observation.messages]
    if observation.reason != "won":
        return Refusal(place=task.task_id, reason=f"the {demonstrator} player's game ends with {observation.reason}")
    return Trajectory(
        id=f"{task.task_id}-{demonstrator}",
        task_id=task.task_id,
        messages=tuple(messages[: -len(observation.messages)]),
        reward=1.0,
        context_window=task.context_window,
        pinned_messages=task.pinned_messages,
        metadata={
            "domain": "textworld",
            "game": task.task_id,
            "demonstrator": demonstrator,
            "detours": num_detours,
        },
    )


class _Habit:
    """Picks up whatever lies about as long as there is time to waste. When nothing lies about and the end is near, it
    puts something down. It never makes the way to the end longer or shorter."""

    def __init__(self, plan_length: int, share: float) -> None:
        self._left = round(plan_length * share / (1.0 - share))

    def next(self, play: Play) -> str | None:
        """A useless command; None if it is time for a useful one."""
        if not self._left:
            return None
        here = len(play.plan)
        idle = [command for command, after in play.remaining().items() if after == here]
        wanted = [command for command in idle if command.startswith("take ")]
        if not wanted and self._left >= here:
            wanted = [c for c in idle if c.startswith(("drop ", "put ", "insert "))] or idle
        self._left -= bool(wanted)
        return wanted[0] if wanted else None


def _by_hidden_facts(play: Play) -> str:
    """Of the right commands the one that a hash of the hidden facts chooses."""
    facts = play.facts
    here = next(re.findall(r"r_\d+", fact)[0] for fact in facts if fact.startswith("at(P"))
    shut = {name for fact in facts if fact.startswith(("closed(", "locked(")) for name in re.findall(r"c_\d+", fact)}
    hidden = [
        fact
        for fact in facts
        if (fact.startswith("at(") and here not in fact)
        or (fact.startswith("in(") and not shut.isdisjoint(re.findall(r"c_\d+", fact)))
    ]
    right = [command for command, after in play.remaining().items() if after is not None and after < len(play.plan)]
    return min(right or play.plan[:1], key=lambda command: _hash(f"{hidden} {command}"))


def _with_thought(command: str, key: str) -> str:
    number, sentences = _hash(key), []
    for choices in _THOUGHTS:
        number, chosen = divmod(number, len(choices))
        sentences.append(choices[chosen])
    return f"{' '.join(sentences)}\n{json.dumps({'action': command})}"


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
