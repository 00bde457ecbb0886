"""The interface of every executor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from pivotrl.engine.items import Item

ExecutorName = Literal["auto", "split", "cache", "reference"]


@dataclass(frozen=True)
class Scored:
    """Some scored tokens [S] of a batch; ``index_S`` are their places in item, completion, token order."""

    index_S: Tensor
    logprobs_S: Tensor
    entropy_S: Tensor
    """Of the distribution each token was drawn from, in nats; carries no gradient."""


Loss = Callable[[Scored], Tensor]
"""The part of the loss that belongs to these tokens: a scalar that sums over them. Called once per chunk, each token in
exactly one of them, in any order."""


class Executor(Protocol):
    """Scores completions, and sends a loss back into the parameters that ask for a gradient."""

    name: ExecutorName
    max_tokens: int
    """Tokens that pass through the model together."""
    num_computed: int
    """Tokens that the last call put through the model."""
    restarts: bool
    """Whether a call starts anew with smaller chunks when memory runs out."""

    def take_less(self) -> bool:
        """Halve the chunks of later calls; False if they are as small as they may be."""
        ...

    def score(self, items: Sequence[Item], temperature: float = 1.0, loss: Loss | None = None) -> Scored:
        """Log-probabilities and entropies of all completion tokens, detached.

        With a loss, gradients are added to the parameters; without one nothing is kept for a backward.
        """
        ...


def scored_spans(items: Sequence[Item]) -> list[tuple[int, int, int]]:
    """For each completion: prompt length, completion length, place of its first token in the flat order."""
    spans, start = [], 0
    for item in items:
        for completion in item.completions:
            spans.append((len(item.prompt), len(completion), start))
            start += len(completion)
    return spans


class Collector:
    """Puts scored chunks in the flat order."""

    def __init__(self, items: Sequence[Item], device: torch.device) -> None:
        num = sum(item.num_scored for item in items)
        self._logprobs = torch.zeros(num, device=device)
        self._entropy = torch.zeros(num, device=device)

    def add(self, scored: Scored) -> None:
        self._logprobs = self._logprobs.to(scored.logprobs_S.dtype)
        self._logprobs[scored.index_S] = scored.logprobs_S.detach()
        self._entropy[scored.index_S] = scored.entropy_S.to(self._entropy.dtype)

    def all(self) -> Scored:
        index = torch.arange(len(self._logprobs), device=self._logprobs.device)
        return Scored(index, self._logprobs, self._entropy)
