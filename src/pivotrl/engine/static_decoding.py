"""Branches that grow from a trunk in buffers that stay where they are, so that a step can be recorded and replayed.

What changes from step to step is in tensors: tokens, positions, lengths, masks. Rows and room for tokens are rounded
up to a bucket. A row beyond the branches, or of a branch that has finished, is dead: it is computed and read by
nobody. When the branches fit into a smaller bucket they move together, and when the room is full they get a larger
one; both make a new layout, for which a step has to be recorded anew.

Suffixes: _N branches that still grow, _R rows of the layout, _C room for tokens.
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
"""Tokens that a branch has room for at first."""


def bucket(number: int) -> int:
    """The least of 1, 2, 3, 4, 6, 8, 12, ... (powers of two and one and a half of them) that holds ``number``."""
    power = 1 << (number - 1).bit_length()
    less = power // 4 * 3
    return less if less >= number else power


class StaticPass:
    """As :class:`pivotrl.engine.decoding.DecodePass`, with shapes and addresses that only a new layout changes.

    Attributes:
        layout: the number of the layout; a step that was recorded in another one is void.
    """

    def __init__(self, forest: Forest, trunk: TrunkState, leaves: Sequence[int], device: torch.device) -> None:
        self._forest, self._device = forest, device
        # Token after token, as the kernels read them: a slice of a segment is no copy then.
        self._trunk_keys, self._trunk_values = (
            {layer: tensor.transpose(1, 2).contiguous().transpose(1, 2) for layer, tensor in tensors.items()}
            for tensors in (trunk.keys, trunk.values)
        )
        self._leaf_N = np.asarray(leaves)
        self._prompt_N = prompt_lengths(forest, self._leaf_N)
        self._length, self.layout = 0, 0
        self._keys: dict[int, Tensor] = {}
        """[R, C, Hkv, D] of each layer."""
        self._values: dict[int, Tensor] = {}
        self._lay_out(_ROOM)

    def advance(self, token_N: Tensor) -> None:
        """Put each branch's next token in place."""
        if self._length == self._room:
            self._move(torch.arange(len(self._leaf_N), device=self._device), bucket(self._room + 1))
        self._length += 1
        self.input_ids_T[: len(token_N)] = token_N
        self.position_ids_T += 1
        self._length_R += 1
        self._slot += 1
        for (read, window), mask in self._masks.items():
            self._hide(mask, read, window)

    def is_sparse(self, num_growing: int) -> bool:
        """The branches that still grow fit into a smaller bucket."""
        return bucket(num_growing) < len(self.input_ids_T)

    def keep(self, chosen_N: Tensor) -> None:
        """Go on with some of the branches, in a new layout."""
        picked = chosen_N.cpu().numpy()
        self._leaf_N, self._prompt_N = self._leaf_N[picked], self._prompt_N[picked]
        self._move(chosen_N, self._room)

    def own(self, row: int, num_tokens: int) -> TrunkState:
        """Views of the keys and values [1, Hkv, T, D] of a branch's first tokens."""
        keys, values = (
            {layer: tensor[row : row + 1, :num_tokens].transpose(1, 2) for layer, tensor in buffers.items()}
            for buffers in (self._keys, self._values)
        )
        return TrunkState(keys, values)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None) -> Tensor:
        """Query [1, H, R, D], key and value [1, Hkv, R, D] of the new tokens -> [1, H, R, D]."""
        for buffers, new in ((self._keys, key), (self._values, value)):
            if layer not in buffers:
                buffers[layer] = self._blank(new.shape[1], new.shape[3], new.dtype)
            buffers[layer].index_copy_(1, self._slot, new[0].transpose(0, 1)[:, None])
        keys, values = self._keys[layer].transpose(1, 2), self._values[layer].transpose(1, 2)
        own = Sight(scale, length_B=self._length_R)
        if window is not None and window < self._room:
            mask_C = self._mask(None, window, query.dtype)
            own = Sight(scale, mask=mask_C.expand(query.shape[1] // key.shape[1], -1))
        # A recorded step must hold for all steps of its layout: what is hidden now stays hidden, and what can be hidden
        # at the end of the room needs a mask.
        reads = self._plans.visible(self._prompt_N + self._length - 1, window)
        masks = [self._mask_if_needed(read, window, query.dtype) for read in reads]
        plan = self._plans.plan(reads, query.shape[1] // key.shape[1])
        return attend(query, keys, values, own, self._trunk_keys[layer], self._trunk_values[layer], plan, masks)

    def _mask_if_needed(self, read: Read, window: int | None, dtype: torch.dtype) -> Tensor | None:
        furthest = self._prompt_N[read.first : read.last].max() + self._room - 1
        return None if window is None or furthest - read.depth < window else self._mask(read, window, dtype)

    def _mask(self, read: Read | None, window: int, dtype: torch.dtype) -> Tensor:
        """Additive mask of a read [n, M], or of the branches' own tokens [1, C]; kept up to date by :meth:`advance`."""
        if (read, window) not in self._masks:
            shape = (1, self._room) if read is None else (read.last - read.first, read.high - read.low)
            self._masks[read, window] = torch.empty(shape, dtype=dtype, device=self._device)
            self._hide(self._masks[read, window], read, window)
        return self._masks[read, window]

    def _hide(self, mask: Tensor, read: Read | None, window: int) -> None:
        if read is None:
            row, column = self._slot[:, None], torch.arange(self._room, device=self._device)
        else:
            row = self.position_ids_T[read.first : read.last, None]
            column = torch.arange(read.depth, read.depth + read.high - read.low, device=self._device)
        mask.zero_().masked_fill_((row - column >= window) | (column > row), -torch.inf)

    def _move(self, chosen_N: Tensor, room: int) -> None:
        """Take some rows into a layout of their own."""
        old = self._keys, self._values
        self._keys, self._values = {}, {}
        self._lay_out(room)
        for before, after in zip(old, (self._keys, self._values), strict=True):
            for layer in list(before):
                tensor = before.pop(layer)  # so that only one layer is held twice
                after[layer] = self._blank(tensor.shape[2], tensor.shape[3], tensor.dtype)
                after[layer][: len(chosen_N), : self._length] = tensor[chosen_N, : self._length]

    def _lay_out(self, room: int) -> None:
        self.layout += 1
        self._room = room
        self._masks: dict[tuple[Read | None, int], Tensor] = {}
        num_rows = bucket(len(self._leaf_N))
        self._plans = Plans(self._forest, self._leaf_N, num_rows, self._device)
        last_R = np.zeros(num_rows, dtype=np.int64)
        last_R[: len(self._prompt_N)] = self._prompt_N
        self.position_ids_T = torch.from_numpy(last_R + self._length - 1).to(self._device)
        self.input_ids_T = torch.zeros(num_rows, dtype=torch.long, device=self._device)
        self._length_R = torch.full((num_rows,), self._length, dtype=torch.int32, device=self._device)
        self._slot = torch.full((1,), self._length - 1, device=self._device)

    def _blank(self, heads: int, size: int, dtype: torch.dtype) -> Tensor:
        """Zeros, because padding must be finite: a weight of zero does not make NaN go away."""
        shape = len(self.input_ids_T), self._room, heads, size
        return torch.zeros(shape, dtype=dtype, device=self._device)
