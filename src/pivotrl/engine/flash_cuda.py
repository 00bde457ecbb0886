"""PyTorch's flash attention for CUDA: half precision, Ampere or newer.

``tests/test_flash_cuda.py`` documents the behaviour of its operators that we rely on.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pivotrl.engine.visibility import Sight, Spans


def takes(query: Tensor) -> bool:
    """Whether the operators take tensors like this one on its device; they raise rather than pad."""
    return fits(query.dtype, query.shape[-1]) and is_there(query.device)


class FlashCuda:
    """``torch.nn.attention.varlen``: flash attention for half precision on CUDA, grouped heads included."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, sight: Sight) -> tuple[Tensor, Tensor]:
        assert sight.mask is None
        batch, heads, rows, _ = query.shape
        output, lse, _ = _varlen().torch_attn._varlen_attn(
            _flat(query),
            _flat(key),
            _flat(value),
            _boundaries(query),
            _boundaries(key),
            rows,
            key.shape[2],
            is_causal=sight.causal and sight.window is None,
            scale=sight.scale,
            window_size=_window(sight),
            enable_gqa=heads != key.shape[1],
            seqused_k=sight.length_B,
        )
        return _unflat(output, batch), lse.reshape(heads, batch, rows).transpose(0, 1)

    def forward_spans(
        self, query: Tensor, key: Tensor, value: Tensor, spans: Spans, scale: float, masks: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        assert not any(mask is not None for mask in masks)
        output, lse, _ = _varlen().torch_attn._varlen_attn(
            _flat(query),
            _flat(key),
            _flat(value),
            spans.row_bounds,
            spans.key_bounds,
            spans.most_rows,
            spans.most_keys,
            scale=scale,
            window_size=[-1, -1],
        )
        return _unflat(output, 1), lse[None]

    def backward(
        self, grad: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, lse: Tensor, sight: Sight
    ) -> tuple[Tensor, Tensor, Tensor]:
        assert sight.mask is None and sight.length_B is None
        batch, heads, rows, _ = query.shape
        d_query, d_key, d_value = _varlen().torch_attn._varlen_attn_backward(
            _flat(grad),
            _flat(query),
            _flat(key),
            _flat(value),
            _flat(output),
            lse.transpose(0, 1).reshape(heads, batch * rows).contiguous(),
            _boundaries(query),
            _boundaries(key),
            rows,
            key.shape[2],
            sight.causal and sight.window is None,
            # The state of dropout, which we do not use.
            torch.zeros(2, dtype=torch.uint64, device=query.device),
            scale=sight.scale,
            window_size=_window(sight),
        )
        return _unflat(d_query, batch), _unflat(d_key, batch), _unflat(d_value, batch)


def _varlen() -> Any:
    """The operators; older versions of PyTorch lack the module that defines them."""
    import torch.nn.attention.varlen

    return torch.ops


def fits(dtype: torch.dtype, size: int) -> bool:
    """Whether dtype and head size are within the operators' limits; beyond them they raise rather than pad."""
    return dtype in (torch.float16, torch.bfloat16) and size % 8 == 0 and size <= 256


@functools.cache
def is_there(device: torch.device) -> bool:
    """Whether the device is Ampere or newer and PyTorch's operators take our arguments."""
    if torch.cuda.get_device_capability(device) < (8, 0):
        return False
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return False
    known = {argument.name for argument in _varlen().torch_attn._varlen_attn.default._schema.arguments}
    return {"window_size", "enable_gqa", "seqused_k"} <= known


def _window(sight: Sight) -> list[int]:
    """How many keys a row sees before and after its own; -1 means no limit."""
    return [-1, -1] if sight.window is None else [sight.window - 1, 0]


def _flat(tensor: Tensor) -> Tensor:
    """[B, H, N, D] -> [B N, H, D]"""
    return tensor.transpose(1, 2).flatten(0, 1).contiguous()


def _unflat(tensor: Tensor, batch: int) -> Tensor:
    return tensor.reshape(batch, -1, *tensor.shape[1:]).transpose(1, 2)


def _boundaries(tensor: Tensor) -> Tensor:
    batch, _, rows, _ = tensor.shape
    return torch.arange(0, (batch + 1) * rows, rows, dtype=torch.int32, device=tensor.device)
