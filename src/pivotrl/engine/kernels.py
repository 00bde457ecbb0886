"""Attention kernels, the choice among them, and the merging of parts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pivotrl.engine import flash_cuda
from pivotrl.engine.visibility import Kernel, Sight, Spans

_MATH_SCORES = 1 << 25
"""Scores that :class:`Math` holds at once."""


def kernel_for(query: Tensor, sight: Sight) -> Kernel:
    """The fastest kernel for tensors like ``query``."""
    if query.device.type == "cpu":
        return FlashCpu()
    if sight.mask is None and flash_cuda.takes(query):
        return flash_cuda.FlashCuda()
    return Math()


def merge(output: Tensor, lse: Tensor, part: Tensor, part_lse: Tensor) -> None:
    """Merge the attention over more keys into ``output`` and ``lse``, in place."""
    total = torch.logaddexp(lse, part_lse.to(lse.dtype))
    output.mul_(torch.exp(lse - total)[..., None]).add_(part * torch.exp(part_lse - total)[..., None])
    lse.copy_(total)


class FlashCpu:
    """PyTorch's flash attention for the CPU; supports grouped heads."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, sight: Sight) -> tuple[Tensor, Tensor]:
        causal, mask = _causal_or_mask(query, key, sight)
        output, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, attn_mask=mask, scale=sight.scale
        )
        if sight.mask is not None:  # rows that see no key return a log-sum-exp of 0
            lse = lse.masked_fill((sight.mask == -torch.inf).all(dim=-1), -torch.inf)
        return output, lse

    def forward_spans(
        self, query: Tensor, key: Tensor, value: Tensor, spans: Spans, scale: float, masks: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        return _one_by_one(self, query, key, value, spans, scale, masks)

    def backward(
        self, grad: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, lse: Tensor, sight: Sight
    ) -> tuple[Tensor, Tensor, Tensor]:
        causal, mask = _causal_or_mask(query, key, sight)
        grads: tuple[Tensor, Tensor, Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, query, key, value, output, lse, 0.0, causal, attn_mask=mask, scale=sight.scale
        )
        return grads


def _one_by_one(
    kernel: Kernel,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    spans: Spans,
    scale: float,
    masks: Sequence[Tensor | None],
) -> tuple[Tensor, Tensor]:
    outputs, lses, first = [], [], 0
    for (num_rows, low, high), mask in zip(spans.each, masks, strict=True):
        rows, keys = slice(first, first + num_rows), slice(low, high)
        output, lse = kernel.forward(query[:, :, rows], key[:, :, keys], value[:, :, keys], Sight(scale, mask=mask))
        outputs.append(output)
        lses.append(lse)
        first += num_rows
    return torch.cat(outputs, dim=2), torch.cat(lses, dim=2)


def _causal_or_mask(query: Tensor, key: Tensor, sight: Sight) -> tuple[bool, Tensor | None]:
    """(whether the kernel applies the causal mask, additive mask [B or 1, 1, N or 1, M])."""
    if sight.window is None and sight.mask is None and sight.length_B is None:
        return sight.causal, None
    added = _added(sight, 0, query.shape[2], key.shape[2], query)
    return False, None if added is None else added[:, None]


class Math:
    """Plain matrix products for any device and dtype, some queries at a time."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, sight: Sight) -> tuple[Tensor, Tensor]:
        outputs, lses = [], []
        for low, high in _blocks(query, key):
            scores = _scores(query, key, low, high, sight)
            lse = scores.logsumexp(dim=-1)
            weights = torch.exp(scores - lse.masked_fill(lse == -torch.inf, 0.0)[..., None])
            outputs.append((weights.to(value.dtype) @ value[:, :, None]).flatten(1, 2))
            lses.append(lse.flatten(1, 2))
        # Blocks cut the queries of every head, so [B, H, n, D] parts are joined along the queries.
        return torch.cat(outputs, dim=2), torch.cat(lses, dim=2)

    def forward_spans(
        self, query: Tensor, key: Tensor, value: Tensor, spans: Spans, scale: float, masks: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        return _one_by_one(self, query, key, value, spans, scale, masks)

    def backward(
        self, grad: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, lse: Tensor, sight: Sight
    ) -> tuple[Tensor, Tensor, Tensor]:
        shape = (key.shape[1], query.shape[1] // key.shape[1])
        d_queries = []
        d_key, d_value = (torch.zeros_like(t, dtype=lse.dtype) for t in (key, value))
        for low, high in _blocks(query, key):
            scores = _scores(query, key, low, high, sight)
            weights = torch.exp(scores - lse[:, :, low:high].unflatten(1, shape)[..., None])
            g, o = (t[:, :, low:high].unflatten(1, shape).to(lse.dtype) for t in (grad, output))
            d_value += (weights.transpose(-1, -2) @ g).sum(dim=2)
            d_scores = weights * (g @ value[:, :, None].to(lse.dtype).transpose(-1, -2) - (g * o).sum(-1, keepdim=True))
            d_queries.append((d_scores @ key[:, :, None].to(lse.dtype)).flatten(1, 2) * sight.scale)
            q = query[:, :, low:high].unflatten(1, shape).to(lse.dtype)
            d_key += (d_scores.transpose(-1, -2) @ q).sum(dim=2) * sight.scale
        return torch.cat(d_queries, dim=2).to(query.dtype), d_key.to(key.dtype), d_value.to(value.dtype)


def _blocks(query: Tensor, key: Tensor) -> list[tuple[int, int]]:
    batch, heads, rows, _ = query.shape
    size = max(1, _MATH_SCORES // (batch * heads * key.shape[2]))
    return [(low, min(low + size, rows)) for low in range(0, rows, size)]


def _scores(query: Tensor, key: Tensor, low: int, high: int, sight: Sight) -> Tensor:
    """[B, Hkv, G, n, M] in fp32 (fp64 for fp64) of the queries [low, high)."""
    grouped = query[:, :, low:high].unflatten(1, (key.shape[1], -1))
    wide = torch.promote_types(query.dtype, torch.float32)
    scores = (grouped @ key[:, :, None].transpose(-1, -2)).to(wide) * sight.scale
    added = _added(sight, low, high, key.shape[2], scores)
    return torch.as_tensor(scores if added is None else scores + added[:, None, None])


def _added(sight: Sight, low: int, high: int, columns: int, like: Tensor) -> Tensor | None:
    """The additive mask for the scores of the queries [low, high): [B or 1, n or 1, M] in the dtype of ``like``."""
    added = None if sight.mask is None else sight.mask[None, low:high].to(like.dtype)
    column_M = torch.arange(columns, device=like.device)
    hidden: list[Tensor] = []
    if sight.causal:
        distance = torch.arange(low, high, device=like.device)[:, None] - column_M
        hidden.append((distance < 0)[None])
        if sight.window is not None:
            hidden.append((distance >= sight.window)[None])
    if sight.length_B is not None:
        hidden.append((column_M >= sight.length_B[:, None])[:, None])
    for where in hidden:
        blank = torch.zeros((1, 1, 1), dtype=like.dtype, device=like.device) if added is None else added
        added = torch.where(where, -torch.inf, blank)
    return added
