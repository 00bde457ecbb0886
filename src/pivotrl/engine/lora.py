"""Folds a LoRA adapter into the frozen weights for sampling, and removes it again bit for bit.

An unmerged adapter costs three matrix products instead of one. The frozen weights never change, so one copy of them
restores them exactly; subtracting the adapter would not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from peft.tuners.lora import Linear, LoraLayer

from pivotrl.protocols import InputError


class FoldedAdapter:
    """Holds the frozen weights of every adapted layer of a PEFT model (one extra copy of those weights).

    Raises:
        InputError: peft did not adapt ``num_layers`` layers, which happens for experts under some names.
    """

    def __init__(self, model: Any, num_layers: int) -> None:
        self._layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
        if len(self._layers) != num_layers or not all(isinstance(layer, Linear) for layer in self._layers):
            raise InputError(
                f"peft adapts {len(self._layers)} layers of the model type {model.config.model_type!r} instead of "
                f"{num_layers}; train the weights themselves with lora_rank=0"
            )
        self._frozen: list[torch.Tensor] = []

    @contextlib.contextmanager
    def folded(self) -> Iterator[None]:
        """Let the model compute with one product per layer; gradients are not allowed meanwhile."""
        if not self._frozen:
            self._frozen = [layer.get_base_layer().weight.detach().clone() for layer in self._layers]
        with torch.no_grad():
            for layer in self._layers:
                layer.merge()
        try:
            yield
        finally:
            with torch.no_grad():
                for layer, weight in zip(self._layers, self._frozen, strict=True):
                    layer.get_base_layer().weight.copy_(weight)
                    layer.merged_adapters.clear()
