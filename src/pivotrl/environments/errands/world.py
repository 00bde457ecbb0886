"""Rooms, things and errands: the tasks, their states, and what an agent knows of them."""

from __future__ import annotations

import functools
import random
import re
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from pivotrl.environments.errands.words import ROOMS, THINGS, Move

Split = Literal["train", "val", "test", "population"]
"""Tasks of different splits have nothing in common but their rules; the micro model was made from `population`."""
Limit = Literal["tight", "loose"]

HELD, HERE, UNKNOWN, DELIVERED = "held", "here", "?", "delivered"
NUM_ROOMS = 5


class Goal(NamedTuple):
    """A thing that is not yet delivered."""

    thing: str
    place: str
    """A room, ``held``, ``here``, or ``?``."""
    target: str


class View(NamedTuple):
    """All that an agent knows; its text is the observation."""

    goals: tuple[Goal, ...]
    edges: tuple[tuple[str, str], ...]
    room: str
    here: tuple[str, ...]
    held: tuple[str, ...]
    unseen: tuple[str, ...]
    """Rooms where the agent has not been yet."""
    left: int
    """Moves left."""

    @property
    def text(self) -> str:
        def listed(items: list[str] | tuple[str, ...]) -> str:
            return ", ".join(items) or "nothing"

        return "\n".join(
            (
                f"left: {self.left}",
                f"room: {self.room}",
                f"here: {listed(self.here)}",
                f"held: {listed(self.held)}",
                f"map: {listed([' '.join(edge) for edge in self.edges])}",
                f"unseen: {listed(self.unseen)}",
                f"goals: {listed([f'{thing} {place} to {target}' for thing, place, target in self.goals])}",
            )
        )


_NAMES = ("left", "room", "here", "held", "map", "unseen", "goals")
_NUMBER = re.compile(r"[0-9]{1,4}")


@functools.lru_cache(maxsize=8192)
def parse_view(text: str) -> View:
    """The view whose text this is.

    Raises:
        ValueError: the text is not an observation of `errands`.
    """
    lines = [line.partition(": ") for line in text.split("\n")]
    if tuple(name for name, _, _ in lines) != _NAMES:
        raise ValueError(f"an observation has the lines {', '.join(_NAMES)}")
    (left,), (room,), here, held, edges, unseen, goals = (
        [] if value == "nothing" else value.split(", ") for _, _, value in lines
    )
    found = View(
        tuple(_goal(goal) for goal in goals),
        tuple(_edge(edge) for edge in edges),
        room,
        tuple(here),
        tuple(held),
        tuple(unseen),
        int(left) if _NUMBER.fullmatch(left) else -1,
    )
    rooms = {name for edge in found.edges for name in edge}
    places = {room, *unseen, *(goal.target for goal in found.goals)}
    places |= {goal.place for goal in found.goals} - {HELD, HERE, UNKNOWN}
    things = {*here, *held, *(goal.thing for goal in found.goals)}
    if not (places <= rooms <= set(ROOMS) and things <= set(THINGS)) or found.text != text:
        raise ValueError("the observation names an unknown room, thing or number")
    return found


def _goal(text: str) -> Goal:
    words = text.split(" ")
    if len(words) != 4 or words[2] != "to":
        raise ValueError(f"{text!r:.80} is not a goal")
    return Goal(words[0], words[1], words[3])


def _edge(text: str) -> tuple[str, str]:
    one, _, other = text.partition(" ")
    return one, other


@dataclass(frozen=True)
class Task:
    """An errand: which things to bring where."""

    edges: tuple[tuple[str, str], ...]
    start: str
    places: dict[str, str]
    """Thing -> room, at the start."""
    goals: tuple[tuple[str, str], ...]
    """(thing, target room)"""
    known: frozenset[str]
    """Things whose place the agent knows from the start."""


def draw_task(split: Split, number: int, num_goals: tuple[int, int]) -> Task:
    """Task ``number`` of a split.

    Each thing lies in any room but its target, with equal chance; where the agent does not know the place, that is
    what it may believe.
    """
    generator = random.Random(f"errands/{split}/{number}/{num_goals}")  # noqa: S311
    rooms = generator.sample(ROOMS, NUM_ROOMS)
    # Two rooms that the others lie around: there it is often better to ask than to look behind every door.
    pairs = [(generator.choice(rooms[: min(i, 2)]), rooms[i]) for i in range(1, NUM_ROOMS)]
    if generator.random() < 0.3:
        unused = [(a, b) for i, a in enumerate(rooms) for b in rooms[i + 1 :] if not {(a, b), (b, a)} & set(pairs)]
        pairs.append(generator.choice(unused))
    edges = tuple(sorted((min(pair), max(pair)) for pair in pairs))
    count = generator.randint(*num_goals)
    things = generator.sample(THINGS, count + NUM_ROOMS)
    start = generator.choice(rooms)
    places: dict[str, str] = {}
    goals = []
    for thing in things[:count]:
        target = generator.choice(rooms)
        places[thing] = generator.choice([room for room in rooms if room != target])
        goals.append((thing, target))
    known = frozenset(thing for thing in things[:count] if generator.random() < 0.15)
    for thing, room in zip(things[count:], rooms, strict=True):  # what lies about, for no goal
        if generator.random() < 0.95:
            places[thing] = room
    return Task(edges, start, places, tuple(goals), known)


@dataclass
class World:
    """The state of a task. A move that is not possible changes nothing but the number of moves left."""

    task: Task
    left: int
    room: str = field(init=False)
    places: dict[str, str] = field(init=False)
    """Thing -> room, ``held``, or ``delivered``: a thing that is put at its target is out of play."""
    known: set[str] = field(init=False)
    seen: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.room, self.places = self.task.start, dict(self.task.places)
        self.known, self.seen = set(self.task.known), set()
        self._look()

    def _look(self) -> None:
        self.seen.add(self.room)
        self.known.update(thing for thing, place in self.places.items() if place == self.room)

    def do(self, move: Move | None) -> None:
        """Spend one move; None is a move that nobody understands."""
        self.left -= 1
        if move is None:
            return
        verb, what = move
        place = self.places.get(what)
        if verb == "go" and (self.room, what) in self._ways:
            self.room = what
            self._look()
        elif verb == "take" and place == self.room:
            self.places[what] = HELD
        elif verb == "put" and place == HELD:
            self.places[what] = DELIVERED if (what, self.room) in self.task.goals else self.room
        elif verb == "ask" and place not in (None, DELIVERED):
            self.known.add(what)

    @functools.cached_property
    def _ways(self) -> set[tuple[str, str]]:
        return {pair for a, b in self.task.edges for pair in ((a, b), (b, a))}

    @property
    def is_done(self) -> bool:
        return all(self.places[thing] == DELIVERED for thing, _ in self.task.goals)

    def view(self) -> View:
        """What the agent knows."""
        rooms = sorted({room for edge in self.task.edges for room in edge})
        return View(
            goals=tuple(
                Goal(thing, self._place(thing), target)
                for thing, target in self.task.goals
                if self.places[thing] != DELIVERED
            ),
            edges=self.task.edges,
            room=self.room,
            here=tuple(sorted(thing for thing, place in self.places.items() if place == self.room)),
            held=tuple(sorted(thing for thing, place in self.places.items() if place == HELD)),
            unseen=tuple(room for room in rooms if room not in self.seen),
            left=self.left,
        )

    def _place(self, thing: str) -> str:
        if self.places[thing] == self.room:
            return HERE
        return self.places[thing] if thing in self.known else UNKNOWN
