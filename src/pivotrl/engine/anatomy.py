"""What a model consists of, from its configuration alone.

The model is built on the meta device, where tensors have shapes but no memory. So its parameters are counted exactly,
for any architecture and size, in a second or two.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch

from pivotrl.engine.configuration import cannot_load, language_model_class, read_config
from pivotrl.engine.counts import Counts
from pivotrl.engine.limits import max_context
from pivotrl.engine.loading import num_outputs, quiet_loading, refusing
from pivotrl.engine.locating import locate
from pivotrl.engine.memory import cached_bytes_per_token
from pivotrl.engine.trainable import Trainable, experts
from pivotrl.protocols import InputError

_CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "num_selected_experts", "top_k_experts")


def anatomy_of(name: str) -> Counts:
    """
    Args:
        name: a model folder, of which config.json suffices, or a Hugging Face id, of which only that is fetched.

    Raises:
        InputError: there is no such model, or it is no decoder that writes text.
    """
    folder = locate(name, needs_weights=False)
    return anatomy_of_config(folder, read_config(folder, name), name)


def anatomy_of_config(folder: Path, config: Any, name: str) -> Counts:
    """See :func:`anatomy_of`."""
    auto_class = language_model_class(folder, config, name, needs_weights=False)
    with quiet_loading(), refusing(cannot_load(name, config.model_type)), torch.device("meta"):
        return _counted(auto_class.from_config(config, dtype=torch.float32, trust_remote_code=False))


def _counted(model: Any) -> Counts:
    config, trainable = model.config.get_text_config(), Trainable(model, 0)
    chosen = next((int(found) for key in _CHOSEN if (found := getattr(config, key, None))), 1)
    sizes, attention, idle, has_experts = [0], 0, 0, False
    for layer in trainable.layers:
        named = list(layer.named_parameters())
        sizes.append(sum(parameter.numel() for _, parameter in named))
        attention += sum(p.numel() for name, p in named if "attn." in name or "attention." in name)
        held = experts(layer)
        idle += sum(p.numel() - p.numel() * chosen // p.shape[0] for p in held)
        has_experts = has_experts or bool(held)
    total, layers = sum(parameter.numel() for parameter in model.parameters()), sum(sizes)
    matrices = [layer.get_parameter("weight").shape for layer in _adapted(trainable)]
    heads = getattr(config, "num_attention_heads", None) or 0
    head_size = getattr(config, "head_dim", None) or config.hidden_size // max(1, heads)
    return Counts(
        layers=len(trainable.layers),
        width=int(config.hidden_size),
        vocabulary=num_outputs(model),
        parameters=total,
        active=total - idle,
        trained=sum({id(p): p.numel() for p in trainable.parameters()}.values()),
        layer_parameters=max(sizes),
        active_layers=layers - idle,
        attention=attention,
        adapted=sum(shape.numel() for shape in matrices),
        adapter_width=sum(sum(shape) for shape in matrices),
        queries=heads * head_size,
        cached=cached_bytes_per_token(model) // model.dtype.itemsize,
        chosen_experts=chosen if has_experts else 0,
        context=max_context(model.config, None),
    )


def _adapted(trainable: Trainable) -> list[Any]:
    """None where LoRA finds no layers."""
    with contextlib.suppress(InputError):
        return list(trainable.linear_layers().values())
    return []
