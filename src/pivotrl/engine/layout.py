"""Which rows of a forest pass attend to which: a triangle per segment, and a rectangle for each segment above it.

Suffixes: _T rows of a pass, _B segments side by side, _L rows of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pivotrl.engine.forest import Forest, Ids

_LONG = 256
"""Segments of at least this many rows attend alone; shorter ones of similar length are batched."""


@dataclass(frozen=True)
class Rectangle:
    """Rows [first, last) of the pass see rows [low, high) of the trunk, or of the pass itself."""

    first: int
    last: int
    low: int
    high: int
    of_trunk: bool


@dataclass(frozen=True)
class Stack:
    """A batch of segments of similar length; padding repeats a segment's last row."""

    rows_BL: Tensor
    valid_BL: Tensor
    start: int
    """First row, for a stack of one segment."""

    def take(self, tensor: Tensor) -> Tensor:
        """[1, H, T, D] -> [B, H, L, D]; a view if there is one segment."""
        if len(self.rows_BL) == 1:
            return tensor[:, :, self.start : self.start + self.rows_BL.shape[1]]
        return tensor[0].transpose(0, 1)[self.rows_BL].transpose(1, 2)

    def put(self, whole: Tensor, part: Tensor) -> None:
        """Write [B, H, L, D] to its rows of [1, H, T, D], without padding."""
        if len(self.rows_BL) == 1:
            whole[:, :, self.start : self.start + self.rows_BL.shape[1]] = part
        else:
            rows = self.rows_BL[self.valid_BL]
            whole[0].transpose(0, 1)[rows] = part.transpose(1, 2)[self.valid_BL].to(whole.dtype)


def rectangles(
    forest: Forest, chosen: Sequence[int], rows_T: Ids, seen: Sequence[int], of_trunk: bool
) -> list[Rectangle]:
    """What the rows of a pass see of the segments ``seen``, which are laid out in sequence."""
    found, low = [], 0
    for index in seen:
        segment = forest.segments[index]
        high = low + segment.end - segment.start
        first, last = np.searchsorted(rows_T, [segment.end, segment.until])
        if last > first:
            found.append(Rectangle(int(first), int(last), low, high, of_trunk))
        low = high
    return found


def side_by_side(spans: Sequence[tuple[int, int]], device: torch.device) -> list[Stack]:
    """Batch segments, given as row ranges; a long one gets its own batch."""
    groups: dict[int, list[tuple[int, int]]] = {}
    for number, (start, end) in enumerate(spans):
        length = end - start
        groups.setdefault(-number - 1 if length >= _LONG else length.bit_length(), []).append((start, end))
    stacked = []
    for group in groups.values():
        longest = max(end - start for start, end in group)
        rows = np.stack([np.minimum(np.arange(start, start + longest), end - 1) for start, end in group])
        lengths = np.array([end - start for start, end in group])
        valid = np.arange(longest)[None] < lengths[:, None]
        stacked.append(Stack(torch.from_numpy(rows).to(device), torch.from_numpy(valid).to(device), group[0][0]))
    return stacked
