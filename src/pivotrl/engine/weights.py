"""The weights of one model in memory: the trained ones and the reference, which is the model before training."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers.pytorch_utils import Conv1D

from pivotrl.engine.adapters import quiet
from pivotrl.engine.lora import FoldedAdapter
from pivotrl.engine.trainable import Trainable
from pivotrl.protocols import InputError


class Weights:
    """A model prepared for training. ``model`` is the trained model, including an adapter.

    Args:
        model: a causal LM of transformers.
        trainable: False trains nothing; the model is its own reference.
        lora_rank: rank of the trained adapter; the reference is the model without it. 0 trains the weights themselves;
            the reference is then a frozen copy of them.
        frozen_layers: number of lowest layers to freeze, together with the embeddings.
        seed: seed of the adapter's initialisation.
        train_router: see :class:`~pivotrl.engine.trainable.Trainable`.
        names: of what is trained, as another process found it (:attr:`names`); the model may have no memory then.
        copied: gives a frozen copy of the model.

    Raises:
        InputError: the model cannot be trained in this way.
    """

    def __init__(
        self,
        model: Any,
        *,
        trainable: bool,
        lora_rank: int,
        lora_alpha: int,
        frozen_layers: int,
        seed: int,
        train_router: bool = True,
        names: Sequence[str] | None = None,
        copied: Callable[[Any], Any] = copy.deepcopy,
    ) -> None:
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        self.model = model
        self.has_adapter = trainable and lora_rank > 0
        self.frozen_copy: Any = None
        self._folded: FoldedAdapter | None = None
        self.names: Sequence[str] = ()
        """Of the layers that have an adapter, or of the trained parameters."""
        if not trainable:
            return
        trained = Trainable(model, frozen_layers, train_router)
        if self.has_adapter:
            self.names = list(trained.linear_layers()) if names is None else names
            self._add_adapter(lora_rank, lora_alpha, seed)
            return
        self.frozen_copy = copied(model)
        if names is None:
            for parameter in trained.parameters():
                parameter.requires_grad_(True)
            self.names = list(self.trained())
        else:
            self.names = names
            for name in names:
                model.get_parameter(name).requires_grad_(True)

    def _add_adapter(self, rank: int, alpha: int, seed: int) -> None:
        layers = {name: self.model.get_submodule(name) for name in self.names}
        longest = max(size for layer in layers.values() for size in layer.get_parameter("weight").shape)
        if rank > longest:
            raise InputError(f"lora_rank must be at most {longest}, the width of the model's widest layer, not {rank}")
        config = LoraConfig(
            r=rank,
            lora_alpha=alpha,
            target_modules=list(layers),
            fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in layers.values()),
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(seed)
            self.model = get_peft_model(self.model, config)
        self.model.eval()
        self._folded = FoldedAdapter(self.model, len(layers))

    @property
    def has_reference(self) -> bool:
        """Whether the reference may differ from the model."""
        return self.has_adapter or self.frozen_copy is not None

    def trained(self) -> dict[str, torch.nn.Parameter]:
        """Name -> parameter, for every trained parameter."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    @contextlib.contextmanager
    def folded(self) -> Iterator[Any]:
        """Fold the adapter into the weights: the model acts at full speed, and gradients are not allowed."""
        with self._folded.folded() if self._folded else contextlib.nullcontext():
            yield self.model

    @contextlib.contextmanager
    def reference(self) -> Iterator[Any]:
        """Give the frozen reference: the model with its adapter off, or the frozen copy."""
        if self.has_adapter:
            with self.model.disable_adapter():
                yield self.model
        else:
            yield self.model if self.frozen_copy is None else self.frozen_copy
