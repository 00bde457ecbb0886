"""Attention over one rectangle or one causal triangle, with its log-sum-exp and a backward that takes them merged.

A flash backward uses only the gradient, the output and the log-sum-exp of a row. Given those of the *whole* row it
returns exact gradients for a part of the row's keys, so parts can be computed apart and merged.

Shapes: query, output [B, H, N, D]; key, value [B, Hkv, M, D] with H a multiple of Hkv; log-sum-exp [B, H, N] in fp32
(fp64 for fp64 inputs). ``mask`` is additive, [N, M].
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

_MATH_SCORES = 1 << 25
"""Scores that :class:`Math` holds at once."""


class Kernel(Protocol):
    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(output, log-sum-exp)."""
        ...

    def backward(
        self,
        grad: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        output: Tensor,
        lse: Tensor,
        causal: bool,
        scale: float,
        mask: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of query, key and value, for the output and log-sum-exp of the whole rows."""
        ...


def kernel_for(query: Tensor, masked: bool) -> Kernel:
    """The fastest kernel for tensors like ``query``."""
    if query.device.type == "cpu":
        return FlashCpu()
    if query.dtype in (torch.float16, torch.bfloat16) and query.shape[-1] <= 256 and not masked:
        return FlashCuda()
    return Math()


class FlashCpu:
    """PyTorch's flash attention for the CPU; knows grouped heads."""

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        output, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, attn_mask=None if mask is None else mask[None, None], scale=scale
        )
        if mask is not None:  # rows that see no key come back with a log-sum-exp of 0
            lse = lse.masked_fill((mask == -torch.inf).all(dim=-1), -torch.inf)
        return output, lse

    def backward(
        self,
        grad: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        output: Tensor,
        lse: Tensor,
        causal: bool,
        scale: float,
        mask: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        grads: tuple[Tensor, Tensor, Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad,
            query,
            key,
            value,
            output,
            lse,
            0.0,
            causal,
            attn_mask=None if mask is None else mask[None, None],
            scale=scale,
        )
        return grads


class FlashCuda:
    """``torch.nn.attention.varlen``: flash attention for half precision on CUDA, grouped heads included."""

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        import torch.nn.attention.varlen

        assert mask is None
        batch, heads, rows, _ = query.shape
        output, lse, _ = torch.ops.torch_attn._varlen_attn(
            _flat(query),
            _flat(key),
            _flat(value),
            _boundaries(query),
            _boundaries(key),
            rows,
            key.shape[2],
            is_causal=causal,
            scale=scale,
            enable_gqa=heads != key.shape[1],
        )
        return _unflat(output, batch), lse.reshape(heads, batch, rows).transpose(0, 1)

    def backward(
        self,
        grad: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        output: Tensor,
        lse: Tensor,
        causal: bool,
        scale: float,
        mask: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        assert mask is None
        batch, heads, rows, _ = query.shape
        d_query, d_key, d_value = torch.ops.torch_attn._varlen_attn_backward(
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
            causal,
            torch.zeros(2, dtype=torch.uint64, device=query.device),
            scale=scale,
        )
        return _unflat(d_query, batch), _unflat(d_key, batch), _unflat(d_value, batch)


def _flat(tensor: Tensor) -> Tensor:
    """[B, H, N, D] -> [B N, H, D]"""
    return tensor.transpose(1, 2).flatten(0, 1).contiguous()


def _unflat(tensor: Tensor, batch: int) -> Tensor:
    return tensor.reshape(batch, -1, *tensor.shape[1:]).transpose(1, 2)


def _boundaries(tensor: Tensor) -> Tensor:
    batch, _, rows, _ = tensor.shape
    return torch.arange(0, (batch + 1) * rows, rows, dtype=torch.int32, device=tensor.device)


class Math:
    """Written out with matrix products: any device and dtype, some queries at a time."""

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        outputs, lses = [], []
        for low, high in _blocks(query, key):
            scores = _scores(query, key, low, high, causal, scale, mask)
            lse = scores.logsumexp(dim=-1)
            weights = torch.exp(scores - lse.masked_fill(lse == -torch.inf, 0.0)[..., None])
            outputs.append((weights.to(value.dtype) @ value[:, :, None]).flatten(1, 2))
            lses.append(lse.flatten(1, 2))
        # Blocks cut the queries of every head, so [B, H, n, D] parts are joined along the queries.
        return torch.cat(outputs, dim=2), torch.cat(lses, dim=2)

    def backward(
        self,
        grad: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        output: Tensor,
        lse: Tensor,
        causal: bool,
        scale: float,
        mask: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        shape = (key.shape[1], query.shape[1] // key.shape[1])
        d_queries = []
        d_key, d_value = (torch.zeros_like(t, dtype=lse.dtype) for t in (key, value))
        for low, high in _blocks(query, key):
            scores = _scores(query, key, low, high, causal, scale, mask)
            weights = torch.exp(scores - lse[:, :, low:high].unflatten(1, shape)[..., None])
            g, o = (t[:, :, low:high].unflatten(1, shape).to(lse.dtype) for t in (grad, output))
            d_value += (weights.transpose(-1, -2) @ g).sum(dim=2)
            d_scores = weights * (g @ value[:, :, None].to(lse.dtype).transpose(-1, -2) - (g * o).sum(-1, keepdim=True))
            d_queries.append((d_scores @ key[:, :, None].to(lse.dtype)).flatten(1, 2) * scale)
            q = query[:, :, low:high].unflatten(1, shape).to(lse.dtype)
            d_key += (d_scores.transpose(-1, -2) @ q).sum(dim=2) * scale
        return torch.cat(d_queries, dim=2).to(query.dtype), d_key.to(key.dtype), d_value.to(value.dtype)


def _blocks(query: Tensor, key: Tensor) -> list[tuple[int, int]]:
    batch, heads, rows, _ = query.shape
    size = max(1, _MATH_SCORES // (batch * heads * key.shape[2]))
    return [(low, min(low + size, rows)) for low in range(0, rows, size)]


def _scores(query: Tensor, key: Tensor, low: int, high: int, causal: bool, scale: float, mask: Tensor | None) -> Tensor:
    """[B, Hkv, G, n, M] in fp32 (fp64 for fp64) of the queries [low, high)."""
    grouped = query[:, :, low:high].unflatten(1, (key.shape[1], -1))
    scores = (grouped @ key[:, :, None].transpose(-1, -2)).to(torch.promote_types(query.dtype, torch.float32)) * scale
    if causal:
        rows, columns = torch.arange(low, high, device=key.device), torch.arange(key.shape[2], device=key.device)
        scores = scores.masked_fill(columns[None] > rows[:, None], -torch.inf)
    if mask is not None:
        scores = scores + mask[low:high]
    return torch.as_tensor(scores)
