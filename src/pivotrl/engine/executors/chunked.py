"""Restart with smaller chunks when memory runs out, for all executors. No row is dropped."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from pivotrl.engine.executors.contract import ExecutorName, Loss, Scored
from pivotrl.engine.items import Item

_LEAST = 16
"""Chunks of this many tokens are not halved again."""


class ChunkedExecutor(abc.ABC):
    """An :class:`~pivotrl.engine.executors.contract.Executor` whose memory grows with ``max_tokens``.

    Args:
        max_tokens: tokens that pass through the model together.
    """

    name: ExecutorName
    takes: ClassVar[float] = 1.0
    """Of the tokens that would fit by what one of them keeps; less where more is kept than grows with their number."""

    def __init__(self, model: Any, max_tokens: int) -> None:
        self._model, self.max_tokens, self.num_computed = model, max_tokens, 0
        self.restarts = True
        """False leaves it to the caller to start anew when memory runs out."""

    def score(self, items: Sequence[Item], temperature: float = 1.0, loss: Loss | None = None) -> Scored:
        """See :class:`~pivotrl.engine.executors.contract.Executor`.

        When memory runs out, gradients are cleared and everything starts anew with chunks of half the size, which
        later calls keep to.

        Raises:
            torch.OutOfMemoryError: not even chunks of 16 tokens fit, or there were gradients before the call.
        """
        clear = all(parameter.grad is None for parameter in self._model.parameters())
        while True:
            try:
                self.num_computed = 0
                with torch.set_grad_enabled(loss is not None):
                    return self._score(items, temperature, loss)
            except torch.OutOfMemoryError:
                if not clear or not self.restarts or not self.take_less():
                    raise
            for parameter in self._model.parameters():
                parameter.grad = None

    def take_less(self) -> bool:
        """Halve the chunks of later calls; False if they are as small as they may be."""
        if self.max_tokens < 2 * _LEAST:
            return False
        self.max_tokens //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return True

    @abc.abstractmethod
    def _score(self, items: Sequence[Item], temperature: float, loss: Loss | None) -> Scored:
        """One try; counts ``num_computed`` up."""
