"""Write a policy as other programs load it: an adapter of peft or a model folder, with tokenizer and README."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch import Tensor

from pivotrl.atomic_folder import atomic_folder
from pivotrl.chatml_template import CHATML_TEMPLATE
from pivotrl.engine.adapter_files import WEIGHTS
from pivotrl.engine.adapters import quiet
from pivotrl.engine.low_rank import LowRank, add, of_one_rank, plain_additions
from pivotrl.engine.policy_readme import Origin, readme
from pivotrl.store import write_file

_NAME = "default"


def write_policy(
    path: Path,
    model: Any,
    tokenizer: Any,
    origin: Origin,
    *,
    merged: Mapping[str, LowRank] | None,
    folded: Callable[[], contextlib.AbstractContextManager[None]],
) -> None:
    """Fill a folder that appears whole or not at all. What it holds gives the logits of ``model``.

    Args:
        model: a model of transformers, or a PEFT model with one adapter beside the weights.
        merged: what was added to the plain weights before the adapter. None writes whole weights, as does a model
            without an adapter.
        folded: inside what it gives, the adapter is in the weights.

    Raises:
        ValueError: a weight is not finite; such weights are never published.
        OSError: the disk is full; an older folder stays.
    """
    config, tensors = _adapter(model, merged)
    with atomic_folder(path) as folder, quiet():
        if config is not None:
            _refuse_not_finite(tensors)
            save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
            dataclasses.replace(config, base_model_name_or_path=origin.base).save_pretrained(folder)
        else:
            with folded():
                _write_model(folder, model, origin.prompts.stop_ids)
        spoken = copy.copy(tokenizer)
        spoken.chat_template = CHATML_TEMPLATE if origin.prompts.style == "chatml" else tokenizer.chat_template
        spoken.save_pretrained(folder)
        write_file(folder / "README.md", readme(origin, rank=None if config is None else config.r))


def _adapter(model: Any, merged: Mapping[str, LowRank] | None) -> tuple[Any, dict[str, Tensor]]:
    """(settings, tensors) of one adapter on the plain weights; (None, {}) when there is none."""
    if not isinstance(model, PeftModel) or merged is None:
        return None, {}
    config = dataclasses.replace(model.peft_config[_NAME], inference_mode=True)
    trained = plain_additions(model)
    if trained is None:
        return None, {}
    additions = of_one_rank(add(merged, trained) if merged else trained)
    rank, alpha = next((part.down.shape[0], part.scaling * part.down.shape[0]) for part in additions.values())
    tensors = {}
    for name, part in additions.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = part.down.contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = part.up.contiguous()
    names, layers = _targets(list(additions), [name for name, _ in model.get_base_model().named_modules()])
    return dataclasses.replace(
        config,
        r=rank,
        lora_alpha=int(alpha) if alpha.is_integer() else alpha,
        use_rslora=False,
        rank_pattern={},
        alpha_pattern={},
        target_modules=names,
        layers_to_transform=layers,
    ), tensors


def _targets(adapted: list[str], present: list[str]) -> tuple[list[str], list[int] | None]:
    """``target_modules`` and ``layers_to_transform`` that mean exactly these modules, in short names where that is
    possible."""
    places = [_place(name) for name in adapted]
    if all(layer is not None for layer, _ in places):
        layers = sorted({layer for layer, _ in places if layer is not None})
        names = sorted({last for _, last in places})
        meant = {name for name in present if _place(name)[0] in layers and _place(name)[1] in names}
        if meant == set(adapted):
            return names, layers
    return sorted(adapted), None


def _place(name: str) -> tuple[int | None, str]:
    """(number of the layer, last part of the name): ``model.layers.3.self_attn.q_proj`` -> (3, ``q_proj``)."""
    parts = name.split(".")
    numbers = [int(part) for part in parts if part.isdigit()]
    return (numbers[0] if len(numbers) == 1 else None), parts[-1]


def _write_model(folder: Path, model: Any, stop_ids: Sequence[int]) -> None:
    base, state = model, model.state_dict()
    if isinstance(model, PeftModel):
        base = model.get_base_model()
        state = {
            name.replace(".base_layer", ""): tensor
            for name, tensor in base.state_dict().items()
            if not any(part.startswith("lora_") for part in name.split("."))
        }
    _refuse_not_finite(state)
    base.save_pretrained(folder, state_dict=state)
    file = folder / "generation_config.json"
    if file.is_file():  # what ends an answer here may be another token than the base model's
        settings = json.loads(file.read_bytes()) | {"eos_token_id": list(stop_ids)}
        write_file(file, json.dumps(settings, indent=2) + "\n")


def _refuse_not_finite(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{name} holds values that are not finite; the policy was not written")
