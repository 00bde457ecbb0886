"""The state of branches that grow from a trunk together, one token each at a time.

A step is one row of tokens, one per branch, through the decoder. Each layer reads every segment of the trunk once,
for all the branches behind it, and each branch's own keys and values; the parts are merged by log-sum-exp.

Suffixes: _N branches that still grow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pivotrl.engine.forest import Forest
from pivotrl.engine.kernels import kernel_for
from pivotrl.engine.split_attention import TrunkState, merge

_ROOM = 32
"""Tokens by which a branch's buffers grow, at least."""


@dataclass(frozen=True)
class _Read:
    """Branches [first, last) read the trunk rows [low, high), whose positions start at ``depth``."""

    first: int
    last: int
    low: int
    high: int
    depth: int


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
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}
        self._length = 0
        ends = [
            forest.segments[leaf].depth + forest.segments[leaf].end - forest.segments[leaf].start for leaf in leaves
        ]
        self._prompt_N = np.asarray(ends)
        self.input_ids_T = torch.zeros(len(leaves), dtype=torch.long, device=device)
        self._renumber()

    def _renumber(self) -> None:
        """After the set of branches has changed."""
        start_N = np.asarray([self._forest.segments[leaf].start for leaf in self._leaf_N])
        self._reads = []
        for segment in self._forest.segments:
            first, last = (int(i) for i in np.searchsorted(start_N, [segment.start, segment.until]))
            if last > first:
                self._reads.append(_Read(first, last, segment.start, segment.end, segment.depth))
        self.position_ids_T = torch.from_numpy(self._prompt_N + self._length).to(self._device)
        self._masks: dict[tuple[_Read, int], Tensor] = {}

    def advance(self, token_N: Tensor) -> None:
        """Put each branch's next token in place."""
        self.input_ids_T = token_N
        self.position_ids_T = torch.from_numpy(self._prompt_N + self._length).to(self._device)
        self._masks.clear()
        self._length += 1

    def keep(self, chosen_N: Tensor) -> None:
        """Go on with some of the branches."""
        for buffers in (self._keys, self._values):
            for layer, tensor in buffers.items():
                buffers[layer] = tensor.index_select(0, chosen_N)
        picked = chosen_N.cpu().numpy()
        self._leaf_N, self._prompt_N = self._leaf_N[picked], self._prompt_N[picked]
        self._renumber()

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None) -> Tensor:
        """Query [1, H, N, D], key and value [1, Hkv, N, D] of the new tokens -> [1, H, N, D]."""
        heads = key.shape[1]
        keys, values = self._with(layer, key, value)
        if window is not None:
            keys, values = keys[:, :, -window:], values[:, :, -window:]
        # The query heads of one key head stand as rows: no key is repeated for them.
        q = query[0].transpose(0, 1).unflatten(1, (heads, -1))
        own, own_lse = kernel_for(q, False).forward(q, keys, values, False, scale, None)
        wide = own_lse.dtype
        output = own.transpose(0, 1).transpose(1, 2).unsqueeze(0).to(wide)  # [1, Hkv, G, N, D]
        lse = own_lse.transpose(0, 1).transpose(1, 2).unsqueeze(0).clone()
        grouped = query.unflatten(1, (heads, -1))
        for read in self._reads:
            mask = self._mask(read, window, query)
            if mask is not None and mask.isneginf().all():
                continue
            rows = slice(read.first, read.last)
            q = grouped[:, :, :, rows].flatten(2, 3)
            k, v = (t[layer][:, :, read.low : read.high] for t in (self._trunk.keys, self._trunk.values))
            if mask is not None:
                mask = mask.repeat(grouped.shape[2], 1)
            part, part_lse = kernel_for(q, mask is not None).forward(q, k, v, False, scale, mask)
            shape = (grouped.shape[2], read.last - read.first)
            merge(output[:, :, :, rows], lse[:, :, :, rows], part.unflatten(2, shape), part_lse.unflatten(2, shape))
        return output.flatten(1, 2).to(query.dtype)

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

    def _mask(self, read: _Read, window: int | None, query: Tensor) -> Tensor | None:
        """Additive mask [n, M] where a window hides a part of the segment; None where it hides nothing."""
        if window is None:
            return None
        rows = self._prompt_N[read.first : read.last] + self._length - 1
        if rows.max() - read.depth < window:
            return None
        if (read, window) not in self._masks:
            columns = np.arange(read.depth, read.depth + read.high - read.low)
            hidden = torch.from_numpy(rows[:, None] - columns[None] >= window).to(self._device)
            blank = torch.zeros(hidden.shape, dtype=query.dtype, device=self._device)
            self._masks[read, window] = blank.masked_fill_(hidden, -torch.inf)
        return self._masks[read, window]
