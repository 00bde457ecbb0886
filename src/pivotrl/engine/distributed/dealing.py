"""Deals work to processes: whole trajectories, by estimated cost, the longest first, each to the least loaded process.

A trajectory's prompts are nested, so one process computes what they share once. Turns of a trajectory have keys that
agree before their last ``#``.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from pivotrl.engine.forest import SortedSequences, input_sequences
from pivotrl.engine.items import Item
from pivotrl.protocols.tokens import Example


def deal(costs: Sequence[float], num_processes: int, owners: Sequence[int | None] | None = None) -> list[list[int]]:
    """Numbers of the pieces of each process, ascending. The same costs are always dealt alike.

    Args:
        owners: the process of each piece that has one already.
    """
    dealt: list[list[int]] = [[] for _ in range(num_processes)]
    for piece, owner in enumerate(owners or ()):
        if owner is not None:
            dealt[owner].append(piece)
    loads = [(sum(costs[piece] for piece in pieces), process) for process, pieces in enumerate(dealt)]
    heapq.heapify(loads)
    free = set(range(len(costs))).difference(*dealt)
    for piece in sorted(free, key=lambda number: (-costs[number], number)):
        load, process = heapq.heappop(loads)
        dealt[process].append(piece)
        heapq.heappush(loads, (load + costs[piece], process))
    return [sorted(pieces) for pieces in dealt]


def deal_examples(examples: Sequence[Example], num_processes: int, width: int) -> list[list[Example]]:
    """The examples of each process; those of one trajectory stay together.

    Args:
        width: hidden size of the model.
    """
    pieces = together([example.key for example in examples])
    costs = []
    for numbers in pieces:
        items = [Item(examples[i].prompt, [c.token_ids_T for c in examples[i].completions_G]) for i in numbers]
        costs.append(cost(input_sequences(items), width))
    dealt = deal(costs, num_processes)
    return [[examples[i] for piece in mine for i in pieces[piece]] for mine in dealt]


def deal_prompts(
    prompts: Sequence[Sequence[int]],
    keys: Sequence[str],
    num_sampled: int,
    num_processes: int,
    width: int,
    owners: dict[str, int],
) -> list[list[int]]:
    """Numbers of the prompts of each process; those of one trajectory stay together.

    Args:
        num_sampled: most tokens that may be sampled at a prompt.
        width: hidden size of the model.
        owners: the process of each trajectory that must stay where it is; new ones are added.
    """
    pieces = together(keys)
    costs = [cost([prompts[i] for i in numbers], width) + len(numbers) * num_sampled for numbers in pieces]
    names = [_trajectory(keys[numbers[0]]) for numbers in pieces]
    dealt = deal(costs, num_processes, [owners.get(name) for name in names])
    owners.update({names[piece]: process for process, mine in enumerate(dealt) for piece in mine})
    return [[i for piece in mine for i in pieces[piece]] for mine in dealt]


def together(keys: Sequence[str]) -> list[list[int]]:
    """Numbers of the keys of each trajectory, in the order in which trajectories begin. An empty key stands alone."""
    found: dict[str, list[int]] = {}
    for number, key in enumerate(keys):
        found.setdefault(_trajectory(key) or f"#{number}", []).append(number)
    return list(found.values())


def _trajectory(key: str) -> str:
    return key.rpartition("#")[0] or key


def cost(sequences: Sequence[Sequence[int]], width: int) -> float:
    """Work of a forward over the prefix forest, in tokens without attention.

    A layer costs about ``24 width^2`` operations for a token, and ``4 width`` for each earlier token that it sees. So a
    token at position ``p`` costs ``1 + p / (6 width)``.
    """
    forest = SortedSequences(sequences)
    lengths = [(len(ids), shared) for ids, shared in zip(forest.ids, forest.shared, strict=True)]
    return sum(length - shared + (length**2 - shared**2) / (12 * width) for length, shared in lengths)
