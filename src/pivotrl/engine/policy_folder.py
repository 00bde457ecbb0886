"""Writes a policy in a form that other programs load: a peft adapter or a model folder, with tokenizer and README."""

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
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import check_target_module_exists
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from pivotrl.engine.adapter_files import WEIGHTS
from pivotrl.engine.adapters import quiet
from pivotrl.engine.decoder import backbone
from pivotrl.engine.distributed.sharding import is_sharded, whole_tensors
from pivotrl.engine.low_rank import LowRank, add, of_one_rank, plain_additions
from pivotrl.engine.policy_readme import Origin, readme
from pivotrl.storage.folders import atomic_folder
from pivotrl.storage.record_files import write_file
from pivotrl.templates.chatml_template import CHATML_TEMPLATE

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
    """Write the folder atomically. Its contents give the logits of ``model``.

    Args:
        model: a model of transformers, or a PEFT model with one unmerged adapter.
        merged: what was added to the plain weights before the adapter. Whole weights are written if it is None or the
            model has no adapter.
        folded: context manager during which the adapter is in the weights.

    Raises:
        ValueError: a weight is not finite; such weights are never exported.
        OSError: the disk is full; an older folder is kept.
    """
    config, tensors = _adapter(model, merged)
    try:
        with atomic_folder(path) as folder, quiet():
            if config is None:
                with folded():
                    _write_model(folder, model, origin.prompts.stop_ids)
            else:
                _refuse_not_finite(tensors)
                save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
                dataclasses.replace(config, base_model_name_or_path=origin.base).save_pretrained(folder)
            spoken = copy.copy(tokenizer)
            if origin.prompts.style == "chatml":
                spoken.chat_template = CHATML_TEMPLATE
            elif origin.prompts.tools_in_chatml:
                spoken.chat_template = {"default": tokenizer.get_chat_template(), "tool_use": CHATML_TEMPLATE}
            spoken.save_pretrained(folder)
            write_file(folder / "README.md", readme(origin, rank=None if config is None else config.r))
    except SafetensorError as error:  # the package's error for a full disk
        raise OSError(None, str(error), str(path)) from error


def _adapter(model: Any, merged: Mapping[str, LowRank] | None) -> tuple[Any, dict[str, Tensor]]:
    """(settings, tensors) of one adapter on the plain weights; (None, {}) if one cannot hold all changes."""
    if not isinstance(model, PeftModel) or merged is None:
        return None, {}
    trained = plain_additions(model)
    if trained is None:
        return None, {}
    additions = of_one_rank(add(merged, trained) if merged else trained)
    rank, alpha = next((part.down.shape[0], part.scaling * part.down.shape[0]) for part in additions.values())
    config = dataclasses.replace(
        model.peft_config[_NAME],
        inference_mode=True,
        r=rank,
        lora_alpha=int(alpha) if alpha.is_integer() else alpha,
        use_rslora=False,
        rank_pattern={},
        alpha_pattern={},
    )
    tensors = {}
    for name, part in additions.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = part.down.contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = part.up.contiguous()
    return _aimed_at(set(additions), [name for name, _ in model.get_base_model().named_modules()], config), tensors


def _aimed_at(adapted: set[str], present: Sequence[str], config: Any) -> Any:
    """The settings with exactly these modules as targets, given by short names and layers if that is exact."""
    layers = {int(part) for name in adapted for part in name.split(".") if part.isdigit()}
    short = dataclasses.replace(
        config,
        target_modules=sorted({name.rpartition(".")[2] for name in adapted}),
        layers_to_transform=sorted(layers) or None,
        layers_pattern=None,
        exclude_modules=None,
    )
    if {name for name in present if check_target_module_exists(short, name)} == adapted:
        return short
    return dataclasses.replace(short, target_modules=sorted(adapted), layers_to_transform=None)


def _write_model(folder: Path, model: Any, stop_ids: Sequence[int]) -> None:
    base = backbone(model)
    state = whole_tensors(base) if is_sharded(base) else base.state_dict()
    if isinstance(model, PeftModel):
        assert all(layer.merged for layer in model.modules() if isinstance(layer, LoraLayer))
        state = {
            name.replace(".base_layer", ""): tensor
            for name, tensor in state.items()
            if not any(part.startswith("lora_") for part in name.split("."))
        }
    _refuse_not_finite(state)
    base.save_pretrained(folder, state_dict=state)
    file = folder / "generation_config.json"
    if file.is_file():  # our end tokens may differ from the base model's
        settings = json.loads(file.read_bytes()) | {"eos_token_id": list(stop_ids)}
        write_file(file, json.dumps(settings, indent=2) + "\n")


def _refuse_not_finite(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{name} holds values that are not finite; the policy was not written")
