"""Padding-free Hugging Face training: several rows end to end in one, positions restarting at each.

On CUDA in half precision the rows are kept apart by a varlen flash kernel (the one of torch, which needs no extra
package); elsewhere by the block mask that transformers builds from the positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.masking_utils import AttentionMaskInterface
from transformers.modeling_utils import AttentionInterface

from models import twin
from peers.common import Advantages, Row, Step, batches, chosen_logprobs, policy_loss, rows_of, total_scored
from pivotrl.engine.items import Item

MICRO_BATCHES = (1, 2, 4, 8)
_VARLEN = "bench_varlen"


def _varlen_attention(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, *,
    row_bounds: torch.Tensor, longest_row: int, scaling: float | None = None, **_: Any
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """[1, H, T, D] in, [1, T, H, D] out."""
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    output = varlen_attn(
        query, key, value, row_bounds, row_bounds, longest_row, longest_row,
        scale=scaling, window_size=(-1, 0), enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    return output[None], None


AttentionInterface.register(_VARLEN, _varlen_attention)
AttentionMaskInterface.register(_VARLEN, lambda **_: None)


def prepare(model: Any, tokenizer: Any, micro_batch: int) -> Step:
    """``micro_batch``: completions laid end to end per forward and backward."""
    varlen = model.device.type == "cuda" and model.dtype in (torch.bfloat16, torch.float16)
    model = twin(model, _VARLEN if varlen else "sdpa")

    def step(items: Sequence[Item], advantages: Advantages) -> float:
        num_tokens, total = total_scored(items), 0.0
        for rows in batches(rows_of(items, advantages), micro_batch):
            loss = _loss(model, rows, num_tokens, varlen)
            loss.backward()
            total += loss.item()
        return total

    return step


def _loss(model: Any, rows: Sequence[Row], num_tokens: int, varlen: bool) -> torch.Tensor:
    device = model.device
    tokens: list[int] = []
    positions: list[int] = []
    scored: list[int] = []
    bounds = [0]
    for row in rows:
        scored += range(len(tokens) + len(row.prompt) - 1, len(tokens) + len(row) - 1)
        tokens += [*row.prompt, *row.completion]
        positions += range(len(row))
        bounds.append(len(tokens))
    extra: dict[str, Any] = {}
    if varlen:
        extra["row_bounds"] = torch.tensor(bounds, dtype=torch.int32, device=device)
        extra["longest_row"] = max(map(len, rows))
    logits = model(
        input_ids=torch.tensor([tokens], device=device),
        position_ids=torch.tensor([positions], device=device),
        logits_to_keep=torch.tensor(scored, device=device),
        use_cache=False,
        **extra,
    ).logits[0]
    targets_S = torch.tensor([token for row in rows for token in row.completion], device=device)
    advantages_S = torch.tensor([row.advantage for row in rows for _ in row.completion], device=device)
    return policy_loss(chosen_logprobs(logits, targets_S), advantages_S, num_tokens)
