"""The trained parameters of a model: those of its text decoder, never those of a vision or audio tower."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from pivotrl.protocols import InputError

_NAMES_OF_EXPERTS = ("gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3")
"""If experts are one parameter, peft takes these names for them, even on layers that are not experts."""

_NAMES_OF_ROUTERS = (".gate.", ".router.")

_READ_AS_WEIGHTS = ("out_proj", "dt_proj")
"""Linear layers of a state-space mixer whose weight the kernels read directly, bypassing an adapter."""


class Trainable:
    """The decoder of a model, cut into its layers.

    Args:
        model: a causal LM of transformers, without an adapter.
        frozen_layers: this many of the lowest layers, and all embeddings, are not trained.
        train_router: False: what chooses the experts of a layer is not trained.

    Raises:
        InputError: the layers are not found, or the model has too few, or it has no router that could be left alone.
    """

    def __init__(self, model: Any, frozen_layers: int, train_router: bool = True) -> None:
        self._model, self._frozen_layers = model, frozen_layers
        num_layers = int(model.config.get_text_config().num_hidden_layers)
        if not 0 <= frozen_layers < num_layers:
            raise InputError(f"frozen_layers must lie in 0..{num_layers - 1}, not {frozen_layers}")
        self._decoder = model.get_decoder()
        found = [
            (name.count("."), module, each)
            for name, module in self._decoder.named_modules()
            for each in module.children()
            if isinstance(each, nn.ModuleList) and len(each) == num_layers
        ]
        if not found:
            raise InputError(
                f"cannot train the model type {model.config.model_type!r}: no {num_layers} layers are found in its "
                "decoder; give a decoder-only model that docs/limits.md lists"
            )
        _, self._holder, self.layers = min(found, key=lambda entry: entry[0])
        self._left_out: set[int] = set()
        if not train_router:
            self._left_out = {id(parameter) for layer in self.layers for parameter in routers(layer)}
            if not self._left_out:
                raise InputError(
                    f"train_router=False: no router is found in the model type {model.config.model_type!r}; leave the "
                    "option out for a model without experts"
                )

    def linear_layers(self) -> dict[str, nn.Module]:
        """Full name -> module for every linear layer, in order, that is trained and can have an adapter."""
        frozen = {id(module) for layer in self.layers[: self._frozen_layers] for module in layer.modules()}
        trained = {id(module) for layer in self.layers[self._frozen_layers :] for module in layer.modules()} - frozen
        modules = dict(self._model.named_modules())
        fused = any(p.dim() == 3 for layer in self.layers for name, p in layer.named_parameters() if "expert" in name)
        found = {}
        for name, module in modules.items():
            if id(module) not in trained or not _is_linear(module):
                continue
            if id(module.weight) in self._left_out:
                continue
            mixer, _, last = name.rpartition(".")
            if fused and last in _NAMES_OF_EXPERTS:
                continue
            if last in _READ_AS_WEIGHTS and hasattr(modules[mixer], "A_log") and hasattr(modules[mixer], "D"):
                continue
            found[name] = module
        if not found:
            raise InputError(
                f"LoRA finds no linear layers in the model type {self._model.config.model_type!r}; train the weights "
                "themselves with lora_rank=0"
            )
        return found

    def parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of full fine-tuning: decoder and output layer, or the layers above the frozen ones and the
        decoder's modules after them."""
        if self._frozen_layers == 0:
            yield from (p for p in self._decoder.parameters() if id(p) not in self._left_out)
            yield from self._model.get_output_embeddings().parameters()
            return
        frozen = {id(p) for layer in self.layers[: self._frozen_layers] for p in layer.parameters()} | self._left_out
        for module in (*self.layers[self._frozen_layers :], *self._after_layers()):
            yield from (p for p in module.parameters() if id(p) not in frozen)

    @torch.no_grad()
    def _after_layers(self) -> list[nn.Module]:
        """The modules that run after the layers: the final norm, under any name."""
        last, called = self.layers[-1], []
        beside = [module for module in self._holder.children() if module is not self.layers]
        output = self._model.get_output_embeddings()
        hooks = [
            module.register_forward_pre_hook(lambda module, _: called.append(module)) for module in (*beside, last)
        ]
        try:
            self._model(input_ids=torch.ones(1, 2, dtype=torch.long, device=self._model.device), use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        return [module for module in called[called.index(last) + 1 :] if module is not output]


def experts(layer: nn.Module) -> list[nn.Parameter]:
    """The weights of all experts of a layer, [expert, rows, columns]."""
    convolutions = (nn.Conv1d, nn.Conv2d)
    return [
        parameter
        for module in layer.modules()
        for parameter in module.parameters(recurse=False)
        if parameter.dim() == 3 and not isinstance(module, convolutions)
    ]


def routers(layer: nn.Module) -> list[nn.Parameter]:
    """What chooses the experts of a layer: a row, or a number, for each expert."""
    numbers = {parameter.shape[0] for parameter in experts(layer)}
    return [
        parameter
        for name, parameter in layer.named_parameters()
        if parameter.dim() <= 2 and parameter.shape[0] in numbers and any(word in name for word in _NAMES_OF_ROUTERS)
    ]


@torch.no_grad()
def _is_linear(module: nn.Module) -> bool:
    """Whether the module computes input times weight plus bias. A subclass may do otherwise, such as choose experts."""
    if type(module) in (nn.Linear, Conv1D):
        return True
    if not isinstance(module, nn.Linear):
        return False
    inputs = torch.linspace(-1, 1, 2 * module.in_features).view(2, -1).to(module.weight)
    try:
        output = module(inputs)
    except Exception:  # it takes other inputs, so it is not a linear layer
        return False
    plain = nn.functional.linear(inputs, module.weight, module.bias)
    if plain.is_meta:  # there are shapes only
        return isinstance(output, torch.Tensor) and output.shape == plain.shape
    return isinstance(output, torch.Tensor) and torch.allclose(output, plain, rtol=1e-2, atol=1e-2)
