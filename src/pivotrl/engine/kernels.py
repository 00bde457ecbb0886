"""Attention over one rectangle or one causal triangle, with its log-sum-exp and a backward that takes them merged.

A flash backward uses only the gradient, the output and the log-sum-exp of a row. Given those of the *whole* row it
returns exact gradients for a part of the row's keys, so parts can be computed apart and merged.

Shapes: query, output [B, H, N, D]; key, value [B, Hkv, M, D] with H a multiple of Hkv; log-sum-exp [B, H, N] in fp32
(fp64 for fp64 inputs).
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

_MATH_SCORES = 1 << 25
"""Scores that :class:`Math` holds at once."""


@dataclass(frozen=True)
class Sight:
    """Which keys the rows of a part see, and how their scores are scaled. By default all of them."""

    scale: float
    causal: bool = False
    """Row i sees the keys 0 to i; as many keys as rows."""
    window: int | None = None
    """Of those, only the last so many."""
    mask: Tensor | None = None
    """Added to the scores, [N, M]; minus infinity hides a key."""
    length_B: Tensor | None = None
    """int32, at least 1: the keys behind the first so many are padding, of whatever finite value. Forward only."""


@dataclass(frozen=True)
class Spans:
    """Stretches of rows that stand one after the other, each seeing a stretch of the keys.

    Attributes:
        each: (number of rows, first key, end of keys), in the order of the keys.
        row_bounds, key_bounds: int32 on the device; between them they cut rows and all the keys into sequences. Keys
            that nobody sees are a sequence without rows.
        most_rows, most_keys: of a sequence.
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
            ValueError: stretches of keys overlap or are out of order.
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
        """As :meth:`forward`, for a batch of one with as many heads as key heads; each span has a mask or None."""
        ...

    def backward(
        self, grad: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, lse: Tensor, sight: Sight
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of query, key and value, for the output and log-sum-exp of the whole rows."""
        ...


def kernel_for(query: Tensor, sight: Sight) -> Kernel:
    """The fastest kernel for tensors like ``query``."""
    if query.device.type == "cpu":
        return FlashCpu()
    if sight.mask is None and _flash_takes(query.dtype, query.shape[-1]) and _has_flash(query.device):
        return FlashCuda()
    return Math()


def merge(output: Tensor, lse: Tensor, part: Tensor, part_lse: Tensor) -> None:
    """Add the attention over more keys to ``output`` and ``lse``, in place."""
    total = torch.logaddexp(lse, part_lse.to(lse.dtype))
    output.mul_(torch.exp(lse - total)[..., None]).add_(part * torch.exp(part_lse - total)[..., None])
    lse.copy_(total)


class FlashCpu:
    """PyTorch's flash attention for the CPU; knows grouped heads."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, sight: Sight) -> tuple[Tensor, Tensor]:
        causal, mask = _causal_or_mask(query, key, sight)
        output, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, attn_mask=mask, scale=sight.scale
        )
        if sight.mask is not None:  # rows that see no key come back with a log-sum-exp of 0
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
    """(let the kernel see causally, mask [B or 1, 1, N or 1, M])."""
    if sight.window is None and sight.mask is None and sight.length_B is None:
        return sight.causal, None
    added = _added(sight, 0, query.shape[2], key.shape[2], query)
    return False, None if added is None else added[:, None]


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
            # The state of dropout, of which there is none.
            torch.zeros(2, dtype=torch.uint64, device=query.device),
            scale=sight.scale,
            window_size=_window(sight),
        )
        return _unflat(d_query, batch), _unflat(d_key, batch), _unflat(d_value, batch)


def _varlen() -> Any:
    """The operators; older versions of PyTorch lack the module that defines them."""
    import torch.nn.attention.varlen

    return torch.ops


def _flash_takes(dtype: torch.dtype, size: int) -> bool:
    """Limits of the operators, for which they raise rather than pad."""
    return dtype in (torch.float16, torch.bfloat16) and size % 8 == 0 and size <= 256


@functools.cache
def _has_flash(device: torch.device) -> bool:
    """Ampere or newer, and a PyTorch whose operators take what we pass."""
    if torch.cuda.get_device_capability(device) < (8, 0):
        return False
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return False
    known = {argument.name for argument in _varlen().torch_attn._varlen_attn.default._schema.arguments}
    return {"window_size", "enable_gqa", "seqused_k"} <= known


def _window(sight: Sight) -> list[int]:
    """Keys that a row sees before its own and behind it; -1 is no limit."""
    return [-1, -1] if sight.window is None else [sight.window - 1, 0]


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
    """What is added to the scores of the queries [low, high): [B or 1, n or 1, M] in the dtype of ``like``."""
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
