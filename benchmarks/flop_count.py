"""Count the floating-point operations that really run, attention as the kernels execute it.

The counter of torch gives causal attention the whole square and skips the CPU kernel and the varlen operators. Here
a causal call counts its visible pairs, and a masked call its whole rectangle, because that is what is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.attention.varlen  # registers torch.ops.torch_attn
from torch.utils.flop_counter import FlopCounterMode

_FORWARD, _BACKWARD = 4.0, 10.0  # per pair and head dimension: 2 products of 2 FLOPs, then 5 (scores once more)


def visible_pairs(queries: int, keys: int, causal: bool) -> float:
    """Pairs of a block; a causal one is aligned at its end, so a square of n has n (n + 1) / 2."""
    if not causal:
        return queries * keys
    inside = min(queries, keys)
    return inside * (inside + 1) / 2 + inside * (keys - inside)


def _formula(operator: Any, factor: float, count: Callable[[dict[str, Any]], float]) -> Callable[..., int]:
    names = [argument.name for argument in operator.default._schema.arguments]

    def flops(*args: Any, out_val: Any = None, **kwargs: Any) -> int:
        return int(factor * count(dict(zip(names, args, strict=False)) | kwargs))

    flops._get_raw = True  # type: ignore[attr-defined]  # the counter then hands over tensors, not shapes
    return flops


def _dense(values: dict[str, Any]) -> float:
    batch, heads, queries, size = values["query"].shape
    return batch * heads * size * visible_pairs(queries, values["key"].shape[-2], values.get("is_causal", False))


def _varlen(values: dict[str, Any]) -> float:
    causal = values.get("is_causal") or tuple(values.get("window_size") or ()) == (-1, 0)
    queries = values["cu_seq_q"].diff().tolist()
    keys = queries if values.get("cu_seq_k") is None else values["cu_seq_k"].diff().tolist()
    _, heads, size = values["query"].shape
    return heads * size * sum(visible_pairs(q, k, bool(causal)) for q, k in zip(queries, keys, strict=True))


def _formulas() -> dict[Any, Callable[..., int]]:
    aten, varlen = torch.ops.aten, torch.ops.torch_attn
    operators = [
        (aten._scaled_dot_product_flash_attention_for_cpu, _FORWARD, _dense),
        (aten._scaled_dot_product_flash_attention_for_cpu_backward, _BACKWARD, _dense),
        (aten._scaled_dot_product_flash_attention, _FORWARD, _dense),
        (aten._scaled_dot_product_flash_attention_backward, _BACKWARD, _dense),
        (aten._scaled_dot_product_efficient_attention, _FORWARD, _dense),
        (aten._scaled_dot_product_efficient_attention_backward, _BACKWARD, _dense),
        (aten._scaled_dot_product_cudnn_attention, _FORWARD, _dense),
        (aten._scaled_dot_product_cudnn_attention_backward, _BACKWARD, _dense),
        (varlen._varlen_attn, _FORWARD, _varlen),
        (varlen._varlen_attn_backward, _BACKWARD, _varlen),
    ]
    return {operator: _formula(operator, factor, count) for operator, factor, count in operators}


def count_flops(work: Callable[[], object]) -> float:
    """FLOPs of ``work()``; a multiply and an add are two."""
    with FlopCounterMode(display=False, custom_mapping=_formulas()) as counter:
        work()
    return float(counter.get_total_flops())
