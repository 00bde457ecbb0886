"""The map of a walk through rooms on a grid, from the commands that were carried out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

_STEPS = {"north": (0, -1), "south": (0, 1), "west": (-1, 0), "east": (1, 0)}

Place = tuple[int, int]


def walk(commands: Sequence[str]) -> list[Place]:
    """The places that a walk from (0, 0) came to, in order, with y growing to the south; ``go north`` is a step."""
    places = [(0, 0)]
    for command in commands:
        verb, _, way = command.strip().lower().partition(" ")
        if verb == "go" and way in _STEPS:
            (x, y), (right, down) = places[-1], _STEPS[way]
            places.append((x + right, y + down))
    return places


def map_view(places: Sequence[Place]) -> dict[str, Any]:
    """A view of the kind ``map``: the places numbered in the order of the first visit, and where the walk is now."""
    numbers = {place: number for number, place in enumerate(dict.fromkeys(places))}
    edges = {tuple(sorted((numbers[a], numbers[b]))) for a, b in itertools.pairwise(places)}
    return {
        "kind": "map",
        "nodes": [
            {"id": str(number), "x": x, "y": y, "label": "start" if number == 0 else str(number)}
            for (x, y), number in numbers.items()
        ],
        "edges": [[str(a), str(b)] for a, b in sorted(edges)],
        "here": str(numbers[places[-1]]),
    }
