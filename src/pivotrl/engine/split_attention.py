"""Attention over a forest of tokens without a mask and without copies of keys and values.

A row sees itself and what stands before it in its segment (a causal triangle), and everything in the segments that
its own continues (rectangles). Rows are in depth-first order, so each segment is read once, by one contiguous range
of rows. The parts are merged by log-sum-exp; the backward of each part takes the merged output and log-sum-exp.

Keys and values of a trunk may come from an earlier pass (:class:`TrunkState`). Its graph is left alone then: the
gradients of its keys and values meet in a buffer and are sent back once, which is exact because the backward of the
trunk is linear in them.

Suffixes: _T rows of a pass.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from pivotrl.engine.forest import Forest, Ids
from pivotrl.engine.kernels import kernel_for

NAME = "pivotrl_split"

_CHANGES_SCORES = ("s_aux", "softcap", "position_bias", "head_mask")
"""Arguments of attention functions that the parts would have to know about: sinks, soft caps, biases."""

_LONG = 256
"""Segments of at least so many rows attend alone; shorter ones of similar length stand side by side."""


@dataclass
class TrunkState:
    """Keys and values [1, Hkv, P, D] of a trunk in each layer, and the gradients that branches send back."""

    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)
    key_grads: dict[int, Tensor] = field(default_factory=dict)
    value_grads: dict[int, Tensor] = field(default_factory=dict)

    def add_grads(self, layer: int, low: int, high: int, d_key: Tensor, d_value: Tensor) -> None:
        """Gradients of the trunk rows [low, high), summed in fp32."""
        for buffers, like, grad in (
            (self.key_grads, self.keys, d_key),
            (self.value_grads, self.values, d_value),
        ):
            if layer not in buffers:
                dtype = torch.promote_types(like[layer].dtype, torch.float32)
                buffers[layer] = torch.zeros_like(like[layer], dtype=dtype)
            buffers[layer][:, :, low:high] += grad


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
    """Segments of similar length side by side; padding repeats a segment's last row."""

    rows_BL: Tensor
    valid_BL: Tensor
    start: int
    """First row, for a stack of one segment."""

    def take(self, tensor: Tensor) -> Tensor:
        """[1, H, T, D] -> [B, H, L, D]; a view when one segment is taken."""
        if len(self.rows_BL) == 1:
            return tensor[:, :, self.start : self.start + self.rows_BL.shape[1]]
        return tensor[0].transpose(0, 1)[self.rows_BL].transpose(1, 2)

    def put(self, whole: Tensor, part: Tensor) -> None:
        """Write [B, H, L, D] to its rows of [1, H, T, D], padding left out."""
        if len(self.rows_BL) == 1:
            whole[:, :, self.start : self.start + self.rows_BL.shape[1]] = part
        else:
            rows = self.rows_BL[self.valid_BL]
            whole[0].transpose(0, 1)[rows] = part.transpose(1, 2)[self.valid_BL].to(whole.dtype)


class ForestPass:
    """One forward through the decoder over some rows of a forest.

    Args:
        forest: the tokens and their segments.
        chosen: segments computed in this pass, in row order; all of them when None.
        trunk: keys and values of an earlier pass over ``trunk_segments``.
        keep: record keys and values of this pass, and take in the gradients that later passes send back.
    """

    def __init__(
        self,
        forest: Forest,
        device: torch.device,
        chosen: Sequence[int] | None = None,
        trunk: TrunkState | None = None,
        trunk_segments: Sequence[int] = (),
        keep: TrunkState | None = None,
    ) -> None:
        chosen = range(len(forest.segments)) if chosen is None else chosen
        self.trunk, self.keep = trunk, keep
        picked = [np.arange(forest.segments[i].start, forest.segments[i].end) for i in chosen]
        self.forest_rows_T: Ids = np.concatenate(picked)
        """Row of the forest that each row of the pass computes."""
        self._positions_T = forest.position_ids_T[self.forest_rows_T]
        self.input_ids_T = torch.from_numpy(forest.token_ids_T[self.forest_rows_T]).to(device)
        self.position_ids_T = torch.from_numpy(self._positions_T).to(device)
        self._device = device
        starts = np.cumsum([0, *map(len, picked)])
        self._triangles = _side_by_side([(int(a), int(b)) for a, b in itertools.pairwise(starts)], device)
        self._rectangles = [
            *_rectangles(forest, chosen, self.forest_rows_T, chosen, of_trunk=False),
            *_rectangles(forest, chosen, self.forest_rows_T, trunk_segments, of_trunk=True),
        ]
        trunk_rows = [np.arange(forest.segments[i].start, forest.segments[i].end) for i in trunk_segments]
        self._trunk_positions = (
            forest.position_ids_T[np.concatenate(trunk_rows)] if trunk_rows else np.zeros(0, dtype=np.int64)
        )
        self._masks: dict[tuple[Rectangle, int], Tensor | None] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None) -> Tensor:
        """Query [1, H, T, D] on key and value [1, Hkv, T, D] -> [1, H, T, D]; called by every layer."""
        if self.keep is not None:
            self.keep.keys[layer], self.keep.values[layer] = key.detach(), value.detach()
        output: Tensor = _SplitAttention.apply(query, key, value, self, layer, scale, window)  # type: ignore[no-untyped-call]
        return output

    def forward_parts(
        self, query: Tensor, key: Tensor, value: Tensor, layer: int, scale: float, window: int | None
    ) -> tuple[Tensor, Tensor]:
        """Merged output and log-sum-exp."""
        wide = torch.promote_types(query.dtype, torch.float32)
        output = torch.empty(query.shape, dtype=wide, device=query.device)
        lse = torch.empty(query.shape[:-1], dtype=wide, device=query.device)
        for stack in self._triangles:
            mask = _window_mask(stack.rows_BL.shape[1], window, query)
            q, k, v = (stack.take(t) for t in (query, key, value))
            part, part_lse = kernel_for(q, mask is not None).forward(q, k, v, mask is None, scale, mask)
            stack.put(output, part)
            stack.put(lse[..., None], part_lse[..., None])
        for rectangle, mask in self._visible(window, query):
            k, v = self._source(rectangle, layer, key, value)
            rows = slice(rectangle.first, rectangle.last)
            q = query[:, :, rows]
            part, part_lse = kernel_for(q, mask is not None).forward(q, k, v, False, scale, mask)
            merge(output[:, :, rows], lse[:, :, rows], part, part_lse)
        return output.to(query.dtype), lse

    def backward_parts(
        self,
        grad: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        output: Tensor,
        lse: Tensor,
        layer: int,
        scale: float,
        window: int | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide = lse.dtype
        d_query, d_key, d_value = (torch.zeros(t.shape, dtype=wide, device=t.device) for t in (query, key, value))
        for stack in self._triangles:
            mask = _window_mask(stack.rows_BL.shape[1], window, query)
            q, k, v, o = (stack.take(t) for t in (query, key, value, output))
            # A padded row repeats the last one of its segment; without a gradient it adds nothing.
            g = stack.take(grad) * stack.valid_BL[:, None, :, None]
            part_lse = stack.take(lse[..., None])[..., 0]
            parts = kernel_for(q, mask is not None).backward(g, q, k, v, o, part_lse, mask is None, scale, mask)
            for whole, part in zip((d_query, d_key, d_value), parts, strict=True):
                stack.put(whole, part)
        for rectangle, mask in self._visible(window, query):
            k, v = self._source(rectangle, layer, key, value)
            rows = slice(rectangle.first, rectangle.last)
            q = query[:, :, rows]
            dq, dk, dv = kernel_for(q, mask is not None).backward(
                grad[:, :, rows], q, k, v, output[:, :, rows], lse[:, :, rows], False, scale, mask
            )
            d_query[:, :, rows] += dq
            if rectangle.of_trunk:
                assert self.trunk is not None
                self.trunk.add_grads(layer, rectangle.low, rectangle.high, dk, dv)
            else:
                d_key[:, :, rectangle.low : rectangle.high] += dk
                d_value[:, :, rectangle.low : rectangle.high] += dv
        if self.keep is not None and layer in self.keep.key_grads:
            d_key += self.keep.key_grads[layer]
            d_value += self.keep.value_grads[layer]
        return d_query.to(query.dtype), d_key.to(key.dtype), d_value.to(value.dtype)

    def _source(self, rectangle: Rectangle, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        if rectangle.of_trunk:
            assert self.trunk is not None
            key, value = self.trunk.keys[layer], self.trunk.values[layer]
        columns = slice(rectangle.low, rectangle.high)
        return key[:, :, columns], value[:, :, columns]

    def _visible(self, window: int | None, query: Tensor) -> list[tuple[Rectangle, Tensor | None]]:
        """The rectangles of which a window shows anything, with a mask where it does not show all."""
        if window is None:
            return [(rectangle, None) for rectangle in self._rectangles]
        shown = []
        for rectangle in self._rectangles:
            columns = (self._trunk_positions if rectangle.of_trunk else self._positions_T)[
                rectangle.low : rectangle.high
            ]
            rows = self._positions_T[rectangle.first : rectangle.last]
            if rows.min() - columns.max() >= window:
                continue
            key = (rectangle, window)
            if key not in self._masks:
                full = rows.max() - columns.min() < window
                hidden = torch.from_numpy(rows[:, None] - columns[None] >= window).to(self._device)
                self._masks[key] = (
                    None
                    if full
                    else torch.zeros(hidden.shape, dtype=query.dtype, device=self._device).masked_fill_(
                        hidden, -torch.inf
                    )
                )
            shown.append((rectangle, self._masks[key]))
        return shown


def _rectangles(
    forest: Forest, chosen: Sequence[int], rows_T: Ids, seen: Sequence[int], of_trunk: bool
) -> list[Rectangle]:
    """What the rows of a pass see of the segments ``seen``, which are laid out one after the other."""
    rectangles, low = [], 0
    for index in seen:
        segment = forest.segments[index]
        high = low + segment.end - segment.start
        first, last = np.searchsorted(rows_T, [segment.end, segment.until])
        if last > first:
            rectangles.append(Rectangle(int(first), int(last), low, high, of_trunk))
        low = high
    return rectangles


def _side_by_side(spans: Sequence[tuple[int, int]], device: torch.device) -> list[Stack]:
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


def merge(output: Tensor, lse: Tensor, part: Tensor, part_lse: Tensor) -> None:
    """Add the attention over more keys to ``output`` and ``lse``, in place."""
    total = torch.logaddexp(lse, part_lse.to(lse.dtype))
    output.mul_(torch.exp(lse - total)[..., None]).add_(part * torch.exp(part_lse - total)[..., None])
    lse.copy_(total)


def _window_mask(length: int, window: int | None, query: Tensor) -> Tensor | None:
    """Causal mask [L, L] of a triangle that a sliding window cuts; None when the window shows all of it."""
    if window is None or length <= window:
        return None
    positions = torch.arange(length, device=query.device)
    distance = positions[:, None] - positions[None]
    hidden = (distance < 0) | (distance >= window)
    return torch.zeros(hidden.shape, dtype=query.dtype, device=query.device).masked_fill_(hidden, -torch.inf)


class _SplitAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> Tensor:
        forest_pass, layer, scale, window = rest
        output, lse = forest_pass.forward_parts(query, key, value, layer, scale, window)
        ctx.save_for_backward(query, key, value, output, lse)
        ctx.rest = rest
        return output  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        forest_pass, layer, scale, window = ctx.rest
        query, key, value, output, lse = ctx.saved_tensors
        d_query, d_key, d_value = forest_pass.backward_parts(
            grads[0], query, key, value, output, lse, layer, scale, window
        )
        return d_query, d_key, d_value, None, None, None, None


def split_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The attention function of every layer: through a pass when one is given, else the stock way."""
    seen = kwargs.pop("forest_pass", None)
    if seen is None:
        stock: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return stock
    unknown = sorted(name for name in _CHANGES_SCORES if kwargs.get(name) is not None)
    if unknown or attention_mask is None or attention_mask.numel() != 1:
        raise NotImplementedError(f"attention with {', '.join(unknown) or 'a mask of its own'} cannot be split")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    output = seen.attend(int(module.layer_idx), query, key, value, scale, kwargs.get("sliding_window"))  # type: ignore[arg-type]
    return output.transpose(1, 2), None


ALL_ATTENTION_FUNCTIONS.register(NAME, split_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
