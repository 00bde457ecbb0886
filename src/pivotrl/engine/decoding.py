"""The state of branches that grow from a trunk together, one token each at a time.

A step is one row of tokens, one per branch, through the decoder. Each layer reads every segment of the trunk once,
for all the branches behind it, and each branch's own keys and values; the parts are merged by log-sum-exp.

Suffixes: _N branches that still grow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pivotrl.engine.forest import Forest, Ids
from pivotrl.engine.kernels import Sight, kernel_for, merge
from pivotrl.engine.split_attention import TrunkState

_ROOM = 32
"""Tokens by which a branch's buffers grow, at least."""

_COMPACT_BELOW = 0.8
"""Finished branches leave when fewer than this share of the rows still grow; moving the rest costs a copy."""


@dataclass(frozen=True)
class Read:
    """Branches [first, last) read the trunk rows [low, high), whose positions start at ``depth``."""

    first: int
    last: int
    low: int
    high: int
    depth: int


def reads_of(forest: Forest, leaf_N: Ids) -> list[Read]:
    """Which branches read which segment; ``leaf_N`` are the segments they continue, in row order."""
    start_N = np.asarray([forest.segments[leaf].start for leaf in leaf_N])
    reads = []
    for segment in forest.segments:
        first, last = (int(i) for i in np.searchsorted(start_N, [segment.start, segment.until]))
        if last > first:
            reads.append(Read(first, last, segment.start, segment.end, segment.depth))
    return reads


def prompt_lengths(forest: Forest, leaf_N: Ids) -> Ids:
    """Tokens before each branch."""
    segments = [forest.segments[leaf] for leaf in leaf_N]
    return np.asarray([segment.depth + segment.end - segment.start for segment in segments])


def attend_parts(
    query: Tensor, keys: Tensor, values: Tensor, own: Sight, parts: Iterable[tuple[Read, Tensor, Tensor, Sight]]
) -> Tensor:
    """A new token of each branch, over the branch's own tokens and the segments of the trunk.

    Args:
        query: [1, H, N, D].
        keys, values: of the branches themselves, [N, Hkv, L, D].
        own: which of them a branch sees.
        parts: reads with the keys and values [1, Hkv, M, D] of their segment; a mask there is [branches, M].

    Returns:
        [1, H, N, D].
    """
    heads = keys.shape[1]
    # The query heads of one key head stand as rows: no key is repeated for them.
    q = query[0].transpose(0, 1).unflatten(1, (heads, -1))
    alone, alone_lse = kernel_for(q, own).forward(q, keys, values, own)
    output = alone.transpose(0, 1).transpose(1, 2).unsqueeze(0).to(alone_lse.dtype)  # [1, Hkv, G, N, D]
    lse = alone_lse.transpose(0, 1).transpose(1, 2).unsqueeze(0).clone()
    grouped = query.unflatten(1, (heads, -1))
    for read, key, value, sight in parts:
        rows = slice(read.first, read.last)
        q = grouped[:, :, :, rows].flatten(2, 3)
        if sight.mask is not None:
            sight = Sight(sight.scale, mask=sight.mask.repeat(grouped.shape[2], 1))
        part, part_lse = kernel_for(q, sight).forward(q, key, value, sight)
        shape = (grouped.shape[2], read.last - read.first)
        merge(output[:, :, :, rows], lse[:, :, :, rows], part.unflatten(2, shape), part_lse.unflatten(2, shape))
    return output.flatten(1, 2).to(query.dtype)


class DecodePass:
    """Branches behind the leaves of a trunk; ``input_ids_T`` and ``position_ids_T`` are those of the next step.

    Args:
        forest: the trunk's prompts, cut at their ends.
        trunk: keys and values of all its rows.
        leaves: the segment that each branch continues, in row order.
    """

    def __init__(self, forest: Forest, trunk: TrunkState, leaves: Sequence[int], device: torch.device) -> None:
        self._forest, self._trunk, self._device = forest, trunk, device
        self._leaf_N = np.asarray(leaves)
        self._prompt_N = prompt_lengths(forest, self._leaf_N)
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}
        self._length = 0
        self._reads = reads_of(forest, self._leaf_N)
        self._masks: dict[tuple[Read, int], Tensor] = {}

    def advance(self, token_N: Tensor) -> None:
        """Put each branch's next token in place."""
        self.input_ids_T = token_N
        self.position_ids_T = torch.from_numpy(self._prompt_N + self._length).to(self._device)
        self._masks.clear()
        self._length += 1

    def is_sparse(self, num_growing: int) -> bool:
        """So few of the rows still grow that the others should leave."""
        return num_growing < _COMPACT_BELOW * len(self._leaf_N)

    def keep(self, chosen_N: Tensor) -> None:
        """Go on with some of the branches."""
        for buffers in (self._keys, self._values):
            for layer, tensor in buffers.items():
                buffers[layer] = tensor.index_select(0, chosen_N)
        picked = chosen_N.cpu().numpy()
        self._leaf_N, self._prompt_N = self._leaf_N[picked], self._prompt_N[picked]
        self._reads = reads_of(self._forest, self._leaf_N)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None) -> Tensor:
        """Query [1, H, N, D], key and value [1, Hkv, N, D] of the new tokens -> [1, H, N, D]."""
        keys, values = self._with(layer, key, value)
        if window is not None:
            keys, values = keys[:, :, -window:], values[:, :, -window:]
        return attend_parts(query, keys, values, Sight(scale), self._parts(layer, scale, window, query.dtype))

    def _parts(
        self, layer: int, scale: float, window: int | None, dtype: torch.dtype
    ) -> Iterable[tuple[Read, Tensor, Tensor, Sight]]:
        for read in self._reads:
            mask = self._mask(read, window, dtype)
            if mask is None or not mask.isneginf().all():
                key, value = (t[layer][:, :, read.low : read.high] for t in (self._trunk.keys, self._trunk.values))
                yield read, key, value, Sight(scale, mask=mask)

    def _with(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [N, Hkv, L, D] of the branches, the new token included."""
        for buffers, new in ((self._keys, key), (self._values, value)):
            room = buffers.get(layer)
            if room is None or self._length > room.shape[2]:
                _, heads, branches, size = new.shape
                wider = new.new_empty(branches, heads, self._length + max(_ROOM, self._length // 2), size)
                if room is not None:
                    wider[:, :, : room.shape[2]] = room
                room = buffers[layer] = wider
            room[:, :, self._length - 1] = new[0].transpose(0, 1)
        return self._keys[layer][:, :, : self._length], self._values[layer][:, :, : self._length]

    def _mask(self, read: Read, window: int | None, dtype: torch.dtype) -> Tensor | None:
        """Additive mask [n, M] where a window hides a part of the segment; None where it hides nothing."""
        if window is None:
            return None
        rows = self._prompt_N[read.first : read.last] + self._length - 1
        if rows.max() - read.depth < window:
            return None
        if (read, window) not in self._masks:
            columns = np.arange(read.depth, read.depth + read.high - read.low)
            hidden = torch.from_numpy(rows[:, None] - columns[None] >= window).to(self._device)
            blank = torch.zeros(hidden.shape, dtype=dtype, device=self._device)
            self._masks[read, window] = blank.masked_fill_(hidden, -torch.inf)
        return self._masks[read, window]
