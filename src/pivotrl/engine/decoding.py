"""The state of branches that grow from a trunk together, one token each at a time.

A step is one row of tokens, one per branch, through the decoder. Each layer reads every segment of the trunk once,
for all the branches behind it, and each branch's own keys and values.

Suffixes: _N branches that still grow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pivotrl.engine.forest import Forest
from pivotrl.engine.split_attention import TrunkState
from pivotrl.engine.trunk_attention import Plans, Read, attend, prompt_lengths
from pivotrl.engine.visibility import Sight

_ROOM = 32
"""Tokens by which a branch's buffers grow, at least."""

_COMPACT_BELOW = 0.8
"""Finished branches leave when fewer than this share of the rows still grow; moving the rest costs a copy."""


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
        self._plans = Plans(forest, self._leaf_N, len(leaves), device)
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
        self._plans = Plans(self._forest, self._leaf_N, len(picked), self._device)

    def own(self, row: int, num_tokens: int) -> TrunkState:
        """Views of the keys and values [1, Hkv, T, D] of a branch's first tokens."""
        keys, values = (
            {layer: tensor[row : row + 1, :, :num_tokens] for layer, tensor in buffers.items()}
            for buffers in (self._keys, self._values)
        )
        return TrunkState(keys, values)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None) -> Tensor:
        """Query [1, H, N, D], key and value [1, Hkv, N, D] of the new tokens -> [1, H, N, D]."""
        keys, values = self._with(layer, key, value)
        if window is not None:
            keys, values = keys[:, :, -window:], values[:, :, -window:]
        reads = self._plans.visible(self._prompt_N + self._length - 1, window)
        plan = self._plans.plan(reads, query.shape[1] // key.shape[1])
        masks = [self._mask(read, window, query.dtype) for read in reads]
        trunk = self._trunk.keys[layer], self._trunk.values[layer]
        return attend(query, keys, values, Sight(scale), *trunk, plan, masks)

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
