"""A token-level prefix forest: a prefix that many sequences share is laid out once.

Common prefixes are found in the token ids, never assumed from a chat template: sequences are sorted, and neighbours
show how much they share (as in a suffix tree). Rows are in depth-first order, so everything that continues a segment
directly follows it in one contiguous range, and attention needs no mask for it.

Suffixes: _T rows of the forest, _S scored tokens.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pivotrl.engine.items import Item

Ids = npt.NDArray[np.int64]

SHARE_ABOVE = 16
"""Tokens that sharing a segment must save, since each segment costs a kernel call per layer; shorter prefixes are
recomputed."""


@dataclass(frozen=True)
class Segment:
    """Rows [start, end) follow each other; rows [end, until) all continue them."""

    start: int
    end: int
    until: int
    depth: int
    """Position of the first row in its sequences."""
    parent: int
    """Index of the segment continued, -1 for a root."""

    @property
    def is_leaf(self) -> bool:
        return self.until == self.end


@dataclass(frozen=True)
class Forest:
    """Input tokens of all sequences, shared where they agree."""

    token_ids_T: Ids
    position_ids_T: Ids
    segments: tuple[Segment, ...]
    """In row order."""
    leaf_of: tuple[int, ...]
    """For each sequence, the segment that holds its last row."""

    def rows(self, sequence: int, first: int, last: int) -> Ids:
        """Rows of the positions [first, last) of a sequence."""
        parts: list[Ids] = []
        index = self.leaf_of[sequence]
        while last > first:
            segment = self.segments[index]
            low = max(first, segment.depth)
            if low < last:
                parts.append(np.arange(low, last) + (segment.start - segment.depth))
                last = low
            index = segment.parent
        return np.concatenate(parts[::-1]) if parts else np.zeros(0, dtype=np.int64)


class SortedSequences:
    """Token sequences in lexicographic order, with the length that each shares with the one before it.

    Attributes:
        order: original numbers, in sorted order.
        shared: ``shared[i]`` is the length of the common prefix of the sorted sequences i - 1 and i; 0 for the first.
    """

    def __init__(self, sequences: Sequence[Sequence[int] | Ids]) -> None:
        arrays = [np.asarray(sequence, dtype=">i4") for sequence in sequences]
        # Big-endian bytes of non-negative ids sort like the ids, and fast.
        self.order = sorted(range(len(arrays)), key=[array.tobytes() for array in arrays].__getitem__)
        self.ids = [arrays[i].astype(np.int64) for i in self.order]
        self.shared = [0, *map(common_prefix, self.ids, self.ids[1:])] if self.ids else []

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, low: int, high: int) -> SortedSequences:
        """The sorted sequences [low, high)."""
        part = SortedSequences([])
        part.order, part.ids = self.order[low:high], self.ids[low:high]
        part.shared = [0, *self.shared[low + 1 : high]]
        return part

    def num_unique_tokens(self) -> int:
        """Nodes of the trie."""
        return sum(len(ids) - shared for ids, shared in zip(self.ids, self.shared, strict=True))


def common_prefix(a: Ids, b: Ids) -> int:
    """How many ids two sequences begin with in common."""
    length = min(len(a), len(b))
    different = np.flatnonzero(a[:length] != b[:length])
    return int(different[0]) if len(different) else length


def build_forest(sequences: SortedSequences, share_above: int = SHARE_ABOVE, cut_at_ends: bool = False) -> Forest:
    """Lay out non-empty sequences.

    A common prefix is shared if that saves at least ``share_above`` tokens; otherwise each branch computes it.

    Args:
        cut_at_ends: end a segment wherever a sequence ends, so that the sequence can be continued there.

    Returns:
        the forest; ``leaf_of`` follows the sorted order of ``sequences``.
    """
    ids, shared = sequences.ids, sequences.shared
    starts: list[tuple[int, int, int, int]] = []  # start, end, depth, parent
    leaf_of = [-1] * len(ids)
    tokens: list[Ids] = []
    num_rows = 0
    # Each entry: sorted sequences [low, high) agree up to `depth`; the sequences `ended` end in the next segment.
    stack: list[tuple[int, int, int, int, tuple[int, ...]]] = [
        (low, high, 0, -1, ()) for low, high in reversed(_runs(shared, 0, len(ids), 0))
    ]
    while stack:
        low, high, depth, parent, ended = stack.pop()
        agreed = min(shared[low + 1 : high], default=len(ids[low]))
        # Shorter sequences sort first, so those that end here come first.
        first = low
        while first < high and len(ids[first]) == agreed:
            first += 1
        ending = (*ended, *range(low, first))
        children = _runs(shared, first, high, agreed) if first < high else []
        saved = (agreed - depth) * (len(children) - 1)
        must_cut = cut_at_ends and first > low
        if children and not must_cut and saved < share_above:
            below = [(a, b, depth, parent, ending if k == 0 else ()) for k, (a, b) in enumerate(children)]
        else:
            if agreed > depth:
                starts.append((num_rows, num_rows + agreed - depth, depth, parent))
                tokens.append(ids[low][depth:agreed])
                num_rows += agreed - depth
                parent = len(starts) - 1
            for sequence in ending:
                leaf_of[sequence] = parent
            below = [(a, b, agreed, parent, ()) for a, b in children]
        stack.extend(reversed(below))
    untils = [end for _, end, _, _ in starts]
    for index in range(len(starts) - 1, -1, -1):
        ancestor = starts[index][3]
        if ancestor >= 0:
            untils[ancestor] = max(untils[ancestor], untils[index])
    segments = tuple(Segment(s, e, u, d, p) for (s, e, d, p), u in zip(starts, untils, strict=True))
    positions = [np.arange(segment.depth, segment.depth + segment.end - segment.start) for segment in segments]
    return Forest(np.concatenate(tokens), np.concatenate(positions), segments, tuple(leaf_of))


def _runs(shared: Sequence[int], low: int, high: int, agreed: int) -> list[tuple[int, int]]:
    """[low, high) cut wherever neighbours share no more than ``agreed``."""
    cuts = [low, *(i for i in range(low + 1, high) if shared[i] <= agreed), high]
    return list(itertools.pairwise(cuts))


def input_sequences(items: Sequence[Item]) -> list[list[int]]:
    """The tokens to compute for each completion: prompt and completion, without the last token."""
    return [[*item.prompt, *completion[:-1]] for item in items for completion in item.completions]


def micro_batches(
    sequences: SortedSequences, max_tokens: int, in_one_pass: bool = False, known: Sequence[int] | None = None
) -> list[SortedSequences]:
    """Cut where it is cheap: between sequences that share little, once a batch holds ``max_tokens``.

    A batch exceeds that only if a cut would compute more than an eighth of ``max_tokens`` twice; the executor then
    keeps the trunk and processes the branches in chunks.

    Args:
        in_one_pass: for an executor without chunks: always cut once a batch holds ``max_tokens`` besides its first
            sequence. So some branches share even a larger trunk.
        known: for each sorted sequence, the tokens at its start that need not be computed; they count as nothing.
    """
    batches, low, used = [], 0, 0
    known = [0] * len(sequences) if known is None else known
    for i, (ids, shared, start) in enumerate(zip(sequences.ids, sequences.shared, known, strict=True)):
        limit = max_tokens + (len(sequences.ids[low]) if in_one_pass else 0)
        over = used + len(ids) - max(shared, start) > limit
        if i > low and over and (in_one_pass or shared - start <= max_tokens // 8):
            batches.append(sequences.part(low, i))
            low, used = i, 0
        used += len(ids) - max(start, shared if i > low else 0)
    if len(sequences):
        batches.append(sequences.part(low, len(sequences)))
    return batches
