"""The trained weights and the reference of a policy, both in shards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch
from peft.tuners.lora import LoraLayer

from pivotrl.engine.distributed.sharding import ShardedModel, ShardOptions
from pivotrl.engine.weights import Weights

Which = Literal["policy", "reference"]


class ShardedWeights(Weights):
    """Takes over the weights of one process and cuts them.

    Args:
        whole: the same in every process, or without memory in those that do not lead. Do not use it afterwards.
    """

    def __init__(self, whole: Weights, options: ShardOptions) -> None:
        self.model, self.has_adapter, self.frozen_copy = whole.model, whole.has_adapter, whole.frozen_copy
        self._policy = ShardedModel(self.model, options)
        self.device = self._policy.device
        self._frozen = self._policy if self.frozen_copy is None else ShardedModel(self.frozen_copy, options)
        self._trained = super().trained()

    def trained(self) -> dict[str, torch.nn.Parameter]:
        """Name -> shard, for every trained parameter."""
        return self._trained

    def gather(self, which: Which) -> None:
        """All processes together: have the whole weights of the policy, or of the reference."""
        self._of(which).gather()

    def release(self, which: Which) -> None:
        """Go back to the shards."""
        self._of(which).release()

    def reduce(self) -> None:
        """All processes together: sum the gradients of the policy into the shards."""
        self._policy.reduce()

    def _of(self, which: Which) -> ShardedModel:
        return self._policy if which == "policy" else self._frozen

    @contextlib.contextmanager
    def folded(self) -> Iterator[Any]:
        """As in :class:`~pivotrl.engine.weights.Weights`, in whole weights; afterwards they must be released, because
        only the shards know the weights without the adapter."""
        layers = (
            [module for module in self.model.modules() if isinstance(module, LoraLayer)] if self.has_adapter else []
        )
        assert self._policy.is_whole
        with torch.no_grad():
            for layer in layers:
                layer.merge()
        try:
            yield self.model
        finally:
            for layer in layers:
                layer.merged_adapters.clear()

    @contextlib.contextmanager
    def reference(self) -> Iterator[Any]:
        assert self._frozen.is_whole
        with super().reference() as model:
            yield model
