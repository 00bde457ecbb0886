"""The interface of attention kernels: which keys their rows see, and which functions they have.

A flash backward uses only the gradient, the output and the log-sum-exp of a row. Given those of the *whole* row, it
returns exact gradients for a part of the row's keys, so parts can be computed separately and merged.

Shapes: query, output [B, H, N, D]; key, value [B, Hkv, M, D] with H a multiple of Hkv; log-sum-exp [B, H, N] in fp32
(fp64 for fp64 inputs).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sight:
    """Which keys the rows of a part see, by default all, and how scores are scaled."""

    scale: float
    causal: bool = False
    """Row i sees the keys 0 to i; there are as many keys as rows."""
    window: int | None = None
    """If set, each row sees only this many of the latest of those keys."""
    mask: Tensor | None = None
    """Added to the scores, [N, M]; minus infinity hides a key."""
    length_B: Tensor | None = None
    """int32, at least 1: number of keys; those after it are padding of any finite value. Forward only."""


@dataclass(frozen=True)
class Spans:
    """Consecutive spans of rows, each of which sees a span of the keys.

    Attributes:
        each: (number of rows, first key, end of keys), in the order of the keys.
        row_bounds, key_bounds: int32 on the device; they cut the rows and all keys into sequences. Keys that no row
            sees are a sequence without rows.
        most_rows, most_keys: the largest of any sequence.
    """

    each: tuple[tuple[int, int, int], ...]
    row_bounds: Tensor
    key_bounds: Tensor
    most_rows: int
    most_keys: int

    @classmethod
    def of(cls, each: Sequence[tuple[int, int, int]], num_keys: int, device: torch.device) -> Spans:
        """
        Raises:
            ValueError: spans of keys overlap or are out of order.
        """
        rows, keys = [0], [0]
        for num_rows, low, high in each:
            if not keys[-1] <= low < high <= num_keys:
                raise ValueError(f"keys [{low}, {high}) of {num_keys} do not follow [.., {keys[-1]})")
            if low > keys[-1]:
                rows.append(rows[-1])
                keys.append(low)
            rows.append(rows[-1] + num_rows)
            keys.append(high)
        if keys[-1] < num_keys:
            rows.append(rows[-1])
            keys.append(num_keys)
        row_bounds, key_bounds = (torch.tensor(places, dtype=torch.int32, device=device) for places in (rows, keys))
        most_rows, most_keys = (max(b - a for a, b in itertools.pairwise(places)) for places in (rows, keys))
        return cls(tuple(each), row_bounds, key_bounds, most_rows, most_keys)


class Kernel(Protocol):
    def forward(self, query: Tensor, key: Tensor, value: Tensor, sight: Sight) -> tuple[Tensor, Tensor]:
        """(output, log-sum-exp). A row that sees nothing has an output of 0 and a log-sum-exp of minus infinity."""
        ...

    def forward_spans(
        self, query: Tensor, key: Tensor, value: Tensor, spans: Spans, scale: float, masks: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """Like :meth:`forward`, for a batch of one with as many heads as key heads; each span has a mask or None."""
        ...

    def backward(
        self, grad: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, lse: Tensor, sight: Sight
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of query, key and value, given the output and log-sum-exp of the whole rows."""
        ...
