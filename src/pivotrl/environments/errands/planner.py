"""The best moves for an agent that knows only what it has seen, exactly.

A thing whose place is unknown lies with equal chance in any room that the agent has not seen, except the thing's
target. The value of what an agent knows is the expected number of moves that a best plan still needs. Going to a room
for the first time and asking may tell something; every other move has one outcome. So we solve one level of knowledge
at a time, from the outcomes that tell more (Dijkstra's algorithm within a level).
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

from pivotrl.environments.errands.words import Move
from pivotrl.environments.errands.world import HELD, HERE, UNKNOWN, View

_HELD, _UNKNOWN = -1, -2
_EQUAL = 1e-9

Ways = tuple[tuple[int, ...], ...]
"""Room -> neighbouring rooms."""
Errands = tuple[tuple[int, int], ...]
"""(place, target) of each thing that is not where it should be, sorted."""
Outcomes = list[tuple[float, "Knowledge"]]


class Knowledge(NamedTuple):
    """What matters to a plan, with rooms as numbers."""

    room: int
    errands: Errands
    unseen: frozenset[int]
    """Empty if every place is known."""


def prices(view: View) -> dict[Move, float]:
    """The expected number of moves, this one included, for every move that changes the plan. Any other move costs 1
    more than :func:`remaining_moves`.

    Raises:
        ValueError: no plan fulfils the goals.
    """
    return dict(_prices(view.goals, view.edges, view.room, view.unseen))


def remaining_moves(view: View) -> float:
    """The expected number of moves that a best plan needs.

    Raises:
        ValueError: no plan fulfils the goals.
    """
    return min(prices(view).values(), default=0.0)


def best_moves(view: View) -> list[Move]:
    """The moves that begin a best plan, in a fixed order.

    Raises:
        ValueError: no plan fulfils the goals.
    """
    found = prices(view)
    best = min(found.values(), default=0.0)
    return [move for move, price in found.items() if price <= best + _EQUAL]


@functools.lru_cache(maxsize=20_000)
def _prices(
    goals: tuple[tuple[str, str, str], ...], edges: tuple[tuple[str, str], ...], room: str, unseen: tuple[str, ...]
) -> tuple[tuple[Move, float], ...]:
    names = sorted({name for edge in edges for name in edge})
    numbers = {name: number for number, name in enumerate(names)}
    pairs = [(numbers[a], numbers[b]) for a, b in edges]
    ways = tuple(
        tuple(sorted({b for a, b in pairs if a == one} | {a for a, b in pairs if b == one}))
        for one in range(len(names))
    )
    special = {HELD: _HELD, UNKNOWN: _UNKNOWN, HERE: numbers[room]}
    errands = [(special[place] if place in special else numbers[place], numbers[to]) for _, place, to in goals]
    hidden = frozenset(numbers[name] for name in unseen)
    here = numbers[room]
    found: dict[Move, Outcomes] = {}
    for number, (goal, (place, target)) in enumerate(zip(goals, errands, strict=True)):
        others = errands[:number] + errands[number + 1 :]
        if place == _HELD:
            found[Move("put", goal[0])] = [(1.0, _known(here, [*others, (here, target)], hidden))]
        elif place == here:
            found[Move("take", goal[0])] = [(1.0, _known(here, [*others, (_HELD, target)], hidden))]
        elif place == _UNKNOWN:
            found[Move("ask", goal[0])] = _asked(here, others, target, hidden)
    for there in ways[here]:
        found[Move("go", names[there])] = _went(there, errands, hidden)
    order = ("put", "take", "ask", "go")
    moves = sorted(found, key=lambda move: (order.index(move.verb), move.what)) if goals else []
    return tuple((move, 1.0 + _mean(ways, found[move])) for move in moves)


def _known(room: int, errands: list[tuple[int, int]], unseen: frozenset[int]) -> Knowledge:
    """Without errands that are done and rooms that do not matter. A thing that can be in one room only is there."""
    left = []
    for place, target in errands:
        if place == _UNKNOWN:
            possible = unseen - {target}
            if not possible:
                raise ValueError("a thing is in no room")
            place = next(iter(possible)) if len(possible) == 1 else place
        if place != target:
            left.append((place, target))
    matters = any(place == _UNKNOWN for place, _ in left)
    return Knowledge(room, tuple(sorted(left)), unseen if matters else frozenset())


def _asked(room: int, others: list[tuple[int, int]], target: int, unseen: frozenset[int]) -> Outcomes:
    possible = sorted(unseen - {target})
    return [(1 / len(possible), _known(room, [*others, (place, target)], unseen)) for place in possible]


def _went(there: int, errands: list[tuple[int, int]], unseen: frozenset[int]) -> Outcomes:
    if there not in unseen:
        return [(1.0, _known(there, errands, unseen))]
    choices: list[list[tuple[float, tuple[int, int]]]] = []
    for place, target in errands:
        possible = unseen - {target}
        if place == _UNKNOWN and there in possible:
            chance = 1 / len(possible)
            choices.append([(chance, (there, target)), (1 - chance, (_UNKNOWN, target))])
        else:
            choices.append([(1.0, (place, target))])
    return [
        (chance, _known(there, [errand for _, errand in combination], unseen - {there}))
        for combination in itertools.product(*choices)
        if (chance := math.prod(part for part, _ in combination)) > 0
    ]


def _mean(ways: Ways, outcomes: Outcomes) -> float:
    return sum(chance * _value(ways, knowledge) for chance, knowledge in outcomes)


@functools.lru_cache(maxsize=1024)
def _values(ways: Ways) -> dict[Knowledge, float]:
    return {}


def _value(ways: Ways, start: Knowledge) -> float:
    values = _values(ways)
    if start not in values:
        values.update(_solved(ways, start))
    return values[start]


def _solved(ways: Ways, start: Knowledge) -> dict[Knowledge, float]:
    """The values of all that can be reached from here without learning anything."""
    before: dict[Knowledge, list[Knowledge]] = {start: []}
    costs: dict[Knowledge, float] = {}
    found = [start]
    for knowledge in found:  # grows
        if not knowledge.errands:
            costs[knowledge] = 0.0
            continue
        for after in _plain(ways, knowledge):
            if after not in before:
                before[after] = []
                found.append(after)
            before[after].append(knowledge)
        telling = [1.0 + _mean(ways, outcomes) for outcomes in _telling(ways, knowledge)]
        if telling:
            costs[knowledge] = min(telling)
    values: dict[Knowledge, float] = {}
    queue = [(cost, *knowledge[:2], sorted(knowledge.unseen), knowledge) for knowledge, cost in costs.items()]
    heapq.heapify(queue)
    while queue:
        cost, *_, knowledge = heapq.heappop(queue)
        if knowledge in values:
            continue
        values[knowledge] = cost
        for earlier in before[knowledge]:
            if earlier not in values:
                heapq.heappush(queue, (cost + 1.0, *earlier[:2], sorted(earlier.unseen), earlier))
    if len(values) < len(before):
        raise ValueError("no plan fulfils the goals")
    return values


def _plain(ways: Ways, now: Knowledge) -> Iterator[Knowledge]:
    """After each move with one outcome. To put a thing anywhere but at its target never helps, as hands hold all."""
    room, errands, unseen = now
    for number, (place, target) in enumerate(errands):
        others = [*errands[:number], *errands[number + 1 :]]
        if place == room:
            yield _known(room, [*others, (_HELD, target)], unseen)
        elif place == _HELD and target == room:
            yield _known(room, others, unseen)
    for there in ways[room]:
        if there not in unseen:
            yield _known(there, list(errands), unseen)


def _telling(ways: Ways, now: Knowledge) -> Iterator[Outcomes]:
    """The outcomes of each move that may tell where something is."""
    room, errands, unseen = now
    for number, (place, target) in enumerate(errands):
        if place == _UNKNOWN:
            yield _asked(room, [*errands[:number], *errands[number + 1 :]], target, unseen)
    for there in ways[room]:
        if there in unseen:
            yield _went(there, list(errands), unseen)
