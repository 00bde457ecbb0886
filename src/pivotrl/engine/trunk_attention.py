"""How branches that decode together read the trunk: one call reads every segment once for all branches below it.

A new token of each branch sees the branch's own tokens and the segments above it. The query heads of one key head
become rows, so no key is repeated for them. Rows are gathered segment by segment and go through one kernel call (one
launch on CUDA for any number of segments). Each row then has a part for every segment that it sees and one for its own
tokens; the parts are weighted by their log-sum-exps.

Suffixes: _N branches, _M their rows (branch by branch, one for each query head of a key head), _Q rows picked for the
segments, _K parts of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pivotrl.engine.forest import Forest, Ids
from pivotrl.engine.kernels import kernel_for
from pivotrl.engine.visibility import Sight, Spans

_PIECE = 1024
"""Tokens of a segment per read on a GPU, where reads run in parallel; otherwise few branches on a long segment would
leave most of the GPU idle."""


@dataclass(frozen=True)
class Read:
    """Branches [first, last) read the trunk rows [low, high), whose positions start at ``depth``."""

    first: int
    last: int
    low: int
    high: int
    depth: int


def prompt_lengths(forest: Forest, leaf_N: Ids) -> Ids:
    """Tokens before each branch."""
    segments = [forest.segments[leaf] for leaf in leaf_N]
    return np.asarray([segment.depth + segment.end - segment.start for segment in segments])


class Plan:
    """The order of rows for some reads.

    Args:
        reads: the reads, in the order of the trunk's rows.
        num_branches: rows of a step, including dead branches.
        group: query heads per key head.
        num_trunk: rows of the trunk.
    """

    def __init__(
        self, reads: Sequence[Read], num_branches: int, group: int, num_trunk: int, device: torch.device
    ) -> None:
        self.group = group
        picked = [np.arange(read.first * group, read.last * group) for read in reads]
        parts_M: list[list[int]] = [[] for _ in range(num_branches * group)]
        for place, row in enumerate(row for rows in picked for row in rows):
            parts_M[row].append(place)
        depth = max(map(len, parts_M))
        # A row with fewer parts than others repeats one of its own with weight 0.
        place_KM = [[parts[min(k, len(parts) - 1)] if parts else 0 for parts in parts_M] for k in range(depth)]
        hidden_KM = [[k >= len(parts) for parts in parts_M] for k in range(depth)]
        self.row_Q = torch.from_numpy(np.concatenate(picked)).to(device)
        self.place_KM = torch.tensor(place_KM, device=device)
        self.added_KM = torch.zeros(depth, len(parts_M), device=device)
        self.added_KM.masked_fill_(torch.tensor(hidden_KM, device=device), -torch.inf)
        self.spans = Spans.of(
            [(len(rows), read.low, read.high) for rows, read in zip(picked, reads, strict=True)], num_trunk, device
        )


class Plans:
    """The reads of all branches, and the plans for those that a layer sees.

    Args:
        leaf_N: the segments that the branches continue, in row order.
        num_rows: branches of a step, including dead ones.
        piece: most tokens of a segment per read; None: no limit on the CPU, :data:`_PIECE` on a GPU.

    Attributes:
        reads: which branches read which segment, or piece of one, in the order of the trunk's rows.
    """

    def __init__(
        self, forest: Forest, leaf_N: Ids, num_rows: int, device: torch.device, piece: int | None = None
    ) -> None:
        piece = piece or (_PIECE if device.type == "cuda" else len(forest.token_ids_T))
        self._num_trunk, self._num_rows, self._device = len(forest.token_ids_T), num_rows, device
        self._made: dict[tuple[tuple[Read, ...], int], Plan | None] = {}
        start_N = np.asarray([forest.segments[leaf].start for leaf in leaf_N])
        self.reads: list[Read] = []
        for segment in forest.segments:
            first, last = (int(i) for i in np.searchsorted(start_N, [segment.start, segment.until]))
            if last > first:
                for low in range(segment.start, segment.end, piece):
                    high, depth = min(low + piece, segment.end), segment.depth + low - segment.start
                    self.reads.append(Read(first, last, low, high, depth))

    def visible(self, position_N: Ids, window: int | None) -> list[Read]:
        """The reads that tokens at these positions, one per branch, can see at all."""
        if window is None:
            return self.reads
        return [
            read
            for read in self.reads
            if position_N[read.first : read.last].min() - (read.depth + read.high - read.low - 1) < window
        ]

    def plan(self, reads: Sequence[Read], group: int) -> Plan | None:
        """The cached plan for some of the reads; None if there are none."""
        key = (tuple(reads), group)
        if key not in self._made:
            self._made[key] = Plan(reads, self._num_rows, group, self._num_trunk, self._device) if reads else None
        return self._made[key]


def attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    own: Sight,
    trunk_key: Tensor,
    trunk_value: Tensor,
    plan: Plan | None,
    masks: Sequence[Tensor | None],
) -> Tensor:
    """Attention of a new token of each branch over the branch's own tokens and the segments of the trunk.

    Args:
        query: [1, H, N, D].
        keys, values: of the branches' own tokens, [N, Hkv, L, D].
        own: which of them a branch sees.
        trunk_key, trunk_value: [1, Hkv, P, D].
        plan: None if no branch sees the trunk.
        masks: for each read of the plan, the additive mask of its scores [branches, keys].

    Returns:
        [1, H, N, D].
    """
    heads = keys.shape[1]
    grouped = query[0].transpose(0, 1).unflatten(1, (heads, -1))  # [N, Hkv, G, D]
    output, lse = kernel_for(grouped, own).forward(grouped, keys, values, own)
    if plan is not None:
        rows_MHD = grouped.transpose(1, 2).flatten(0, 1)
        wide = [None if mask is None else mask.repeat_interleave(plan.group, dim=0) for mask in masks]
        sight = Sight(own.scale, mask=next((mask for mask in wide if mask is not None), None))
        part, part_lse = kernel_for(query, sight).forward_spans(
            rows_MHD[plan.row_Q].transpose(0, 1)[None], trunk_key, trunk_value, plan.spans, own.scale, wide
        )
        own_MHD, own_MH = output.transpose(1, 2).flatten(0, 1), lse.transpose(1, 2).flatten(0, 1)
        parts_KMHD, lse_KMH = part[0].transpose(0, 1)[plan.place_KM], part_lse[0].transpose(0, 1)[plan.place_KM]
        weights = torch.cat([own_MH[None], lse_KMH + plan.added_KM[..., None]]).softmax(dim=0)[..., None]
        merged = own_MHD * weights[0] + (parts_KMHD * weights[1:]).sum(dim=0)
        output = merged.unflatten(0, (-1, plan.group)).transpose(1, 2)
    return output.flatten(1, 2).transpose(0, 1)[None].to(query.dtype)
