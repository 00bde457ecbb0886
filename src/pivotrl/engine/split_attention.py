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
from pivotrl.engine.kernels import kernel_for, merge
from pivotrl.engine.layout import Rectangle, Stack, rectangles, side_by_side
from pivotrl.engine.visibility import Sight

NAME = "pivotrl_split"

_CHANGES_SCORES = ("s_aux", "softcap", "position_bias", "head_mask")
"""Arguments of attention functions that the parts would have to know about: sinks, soft caps, biases."""


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
        self._triangles = side_by_side([(int(a), int(b)) for a, b in itertools.pairwise(starts)], device)
        self._rectangles = [
            *rectangles(forest, chosen, self.forest_rows_T, chosen, of_trunk=False),
            *rectangles(forest, chosen, self.forest_rows_T, trunk_segments, of_trunk=True),
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
        # Row after row, as the next projection reads it: what is kept for the backward is kept once.
        output = torch.empty(query.transpose(1, 2).shape, dtype=wide, device=query.device).transpose(1, 2)
        lse = torch.empty(query.shape[:-1], dtype=wide, device=query.device)
        for stack in self._triangles:
            sight = _own(stack, window, scale)
            q, k, v = (stack.take(t) for t in (query, key, value))
            part, part_lse = kernel_for(q, sight).forward(q, k, v, sight)
            stack.put(output, part)
            stack.put(lse[..., None], part_lse[..., None])
        for rectangle, mask in self._visible(window, query):
            k, v = self._source(rectangle, layer, key, value)
            rows = slice(rectangle.first, rectangle.last)
            q, sight = query[:, :, rows], Sight(scale, mask=mask)
            part, part_lse = kernel_for(q, sight).forward(q, k, v, sight)
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
            sight = _own(stack, window, scale)
            q, k, v, o = (stack.take(t) for t in (query, key, value, output))
            # A padded row repeats the last one of its segment; without a gradient it adds nothing.
            g = stack.take(grad) * stack.valid_BL[:, None, :, None]
            part_lse = stack.take(lse[..., None])[..., 0]
            parts = kernel_for(q, sight).backward(g, q, k, v, o, part_lse, sight)
            for whole, part in zip((d_query, d_key, d_value), parts, strict=True):
                stack.put(whole, part)
        for rectangle, mask in self._visible(window, query):
            k, v = self._source(rectangle, layer, key, value)
            rows = slice(rectangle.first, rectangle.last)
            q, sight = query[:, :, rows], Sight(scale, mask=mask)
            dq, dk, dv = kernel_for(q, sight).backward(
                grad[:, :, rows], q, k, v, output[:, :, rows], lse[:, :, rows], sight
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


def _own(stack: Stack, window: int | None, scale: float) -> Sight:
    """What rows see of their own segment; no window where it shows all of it."""
    cut = window is not None and window < stack.rows_BL.shape[1]
    return Sight(scale, causal=True, window=window if cut else None)


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
