"""Pair things one to one, as many as possible: parallel tool calls, the items of an unordered array."""

from __future__ import annotations

from collections.abc import Sequence


def match_all(edges: Sequence[Sequence[int]]) -> dict[int, int]:
    """A maximum matching of a bipartite graph, by augmenting paths.

    Args:
        edges: for each left node the right nodes it may be matched with.

    Returns:
        {left: right}; a left node that is missing cannot be matched beside the others.
    """
    matched: dict[int, int] = {}
    owner: dict[int, int] = {}
    for start in range(len(edges)):
        reached_from: dict[int, int] = {}
        free: int | None = None
        queue = [start]
        for left in queue:  # grows while it is walked: breadth first, no recursion
            for right in edges[left]:
                if right not in reached_from:
                    reached_from[right] = left
                    if right in owner:
                        queue.append(owner[right])
                    else:
                        free = right
                        break
            if free is not None:
                break
        while free is not None:  # flip the path back to the start
            left = reached_from[free]
            owner[free] = left
            matched[left], free = free, matched.get(left)
    return matched
