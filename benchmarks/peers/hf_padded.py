"""Plain Hugging Face training: padded rows, each with its whole prompt, logits only where a completion is scored.

Rows are sorted by length and padded on the right, so no mask is needed and the kernel stays causal: what a careful
user gets from a stock model class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from models import twin
from peers.common import Advantages, Row, Step, batches, chosen_logprobs, policy_loss, rows_of, total_scored
from pivotrl.engine.items import Item

MICRO_BATCHES = (1, 2, 4, 8)


def prepare(model: Any, tokenizer: Any, micro_batch: int) -> Step:
    """``micro_batch``: rows per forward and backward."""
    model = twin(model)

    def step(items: Sequence[Item], advantages: Advantages) -> float:
        num_tokens, total = total_scored(items), 0.0
        for rows in batches(rows_of(items, advantages), micro_batch):
            loss = _loss(model, rows, num_tokens)
            loss.backward()
            total += loss.item()
        return total

    return step


def _loss(model: Any, rows: Sequence[Row], num_tokens: int) -> torch.Tensor:
    device = model.device
    input_ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for i, row in enumerate(rows):
        input_ids[i, : len(row)] = torch.tensor([*row.prompt, *row.completion])
    first = min(len(row.prompt) for row in rows) - 1
    kept = torch.arange(first, max(map(len, rows)) - 1, device=device)
    logits = model(input_ids=input_ids.to(device), logits_to_keep=kept, use_cache=False).logits
    where = [(i, len(row.prompt) - 1 - first + t) for i, row in enumerate(rows) for t in range(len(row.completion))]
    row_S, column_S = torch.tensor(where, device=device).T
    targets_S = torch.tensor([token for row in rows for token in row.completion], device=device)
    advantages_S = torch.tensor([row.advantage for row in rows for _ in row.completion], device=device)
    return policy_loss(chosen_logprobs(logits[row_S, column_S], targets_S), advantages_S, num_tokens)
