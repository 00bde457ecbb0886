"""What the update peers share: the batch as tensors, the loss, and rows cut to micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeVar

import torch

from pivotrl.engine.items import Item
from pivotrl.engine.losses import clipped_policy_loss

Advantages = Sequence[Sequence[float]]
"""Of each completion of each item."""
Step = Callable[[Sequence[Item], Advantages], float]

CLIP = 0.2
_T = TypeVar("_T")


def token_advantages(items: Sequence[Item], advantages: Advantages, device: torch.device) -> torch.Tensor:
    """Advantage of each completion token [S], in item, completion, token order."""
    pairs = zip(chain.from_iterable(item.completions for item in items), chain.from_iterable(advantages), strict=True)
    values = [advantage for completion, advantage in pairs for _ in completion]
    return torch.tensor(values, dtype=torch.float32, device=device)


def policy_loss(logprobs_S: torch.Tensor, advantages_S: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """On policy: the old log-probabilities are the present ones, detached. ``num_tokens`` is that of the batch."""
    weights_S = torch.full_like(logprobs_S, 1.0 / num_tokens)
    return clipped_policy_loss(logprobs_S, logprobs_S.detach(), advantages_S, weights_S, CLIP, CLIP)[0]


def chosen_logprobs(logits_SV: torch.Tensor, targets_S: torch.Tensor) -> torch.Tensor:
    """Log-probability [S] of each target, in fp32."""
    return -torch.nn.functional.cross_entropy(logits_SV.float(), targets_S, reduction="none")


class Row:
    """One completion behind its prompt."""

    def __init__(self, prompt: Sequence[int], completion: Sequence[int], advantage: float) -> None:
        self.prompt, self.completion, self.advantage = prompt, completion, advantage

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


def rows_of(items: Sequence[Item], advantages: Advantages) -> list[Row]:
    """Longest first: neighbours are alike, so padding is small, and memory runs out at once or never."""
    rows = [
        Row(item.prompt, completion, advantage)
        for item, values in zip(items, advantages, strict=True)
        for completion, advantage in zip(item.completions, values, strict=True)
    ]
    return sorted(rows, key=len, reverse=True)


def batches(things: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    return (things[i : i + size] for i in range(0, len(things), size))


def total_scored(items: Iterable[Item]) -> int:
    return sum(item.num_scored for item in items)
