"""Reads a LoRA adapter folder saved by peft, and checks everything that does not need the model.

It opens only ``adapter_config.json`` and ``adapter_model.safetensors``, so nothing is ever unpickled.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file

from pivotrl.protocols import InputError
from pivotrl.protocols.errors import first_line
from pivotrl.records.strict_json import parse_json
from pivotrl.storage.record_files import sha256_of_file, sha256_of_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

_USED = (
    *("task_type", "r", "lora_alpha", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("rank_pattern", "alpha_pattern", "modules_to_save", "bias", "use_rslora", "use_dora", "fan_in_fan_out"),
    *("trainable_token_indices", "lora_bias", "target_parameters", "ensure_weight_tying"),
)
_YES_OR_NO = ("use_rslora", "use_dora", "fan_in_fan_out", "lora_bias", "ensure_weight_tying")
_WITHOUT_EFFECT = (
    *("peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode"),
    *("lora_dropout", "init_lora_weights", "loftq_config", "eva_config", "corda_config", "lora_ga_config"),
    *("megatron_core", "qalora_group_size", "runtime_config"),
)
"""Settings of training or its start, and details of kinds that :func:`_refuse_other_kinds` refuses anyway."""

_MOVES_THE_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")
"""Initialisations that change the base model's weights: the adapter is then the difference to the changed weights."""


class AdapterFiles(NamedTuple):
    """The contents of an adapter folder. ``tensors`` keep the file's names and have at least single precision."""

    folder: Path
    config: LoraConfig
    tensors: dict[str, torch.Tensor]
    sha256: str
    """Hash of everything that defines the adapter: the settings in use and the tensors."""


def read_adapter(folder: Path) -> AdapterFiles:
    """The adapter in a folder.

    Raises:
        InputError: the folder is not a LoRA adapter in safetensors, or its kind cannot be merged exactly.
    """
    settings = _settings(folder)
    _refuse_other_kinds(folder, settings)
    tensors = _tensors(folder)
    _check_numbers(folder, settings, tensors)
    try:
        used = {name: settings[name] for name in _USED if name in settings}
        config = LoraConfig(**used)
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / CONFIG} cannot be used: {first_line(error)}. Save the adapter again") from error
    in_order = {name: sorted(map(str, value)) if isinstance(value, list) else value for name, value in used.items()}
    sha256 = sha256_of_json({"settings": in_order, "tensors": sha256_of_file(folder / WEIGHTS)})
    return AdapterFiles(folder, config, tensors, sha256)


def _settings(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise InputError(
            f"the adapter {folder} is not a folder. Give the folder that peft saved; fetch one from the Hub with "
            f"`hf download {folder} --local-dir FOLDER`"
        )
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder} is not a LoRA adapter: it has no {CONFIG}. Give the folder that peft saved")
    try:
        settings = parse_json((folder / CONFIG).read_bytes())
    except ValueError as error:
        raise InputError(f"{folder / CONFIG} is not JSON: {error}. Save the adapter again") from error
    if not isinstance(settings, dict):
        raise InputError(f"{folder / CONFIG} is not a JSON object. Save the adapter again")
    return settings


def _refuse_other_kinds(folder: Path, settings: dict[str, Any]) -> None:
    """Accept only adapters that can be merged exactly; an unknown setting must be empty."""
    file, mend = folder / CONFIG, "merge it with the program that made it and pass the result as --model"
    if settings.get("peft_type") != "LORA":
        raise InputError(f"{file} describes an adapter of the kind {settings.get('peft_type')}, not LORA; {mend}")
    if settings.get("task_type") not in (None, "CAUSAL_LM"):
        raise InputError(f"{file} is for {settings['task_type']}; give an adapter for CAUSAL_LM")
    if lacking := [name for name in ("r", "lora_alpha", "target_modules") if name not in settings]:
        raise InputError(f"{file} lacks {', '.join(lacking)}; save the adapter again")
    for name in _YES_OR_NO:
        if not isinstance(settings.get(name), bool | None):
            raise InputError(f"{file}: {name} is {settings[name]!r}, not true or false; save the adapter again")
    begun = settings.get("init_lora_weights")
    if isinstance(begun, str) and begun.startswith(_MOVES_THE_BASE):
        raise InputError(
            f"{file} says init_lora_weights={begun!r}, which changes the base model's weights; save the adapter again "
            "with peft's path_initial_model_for_weight_conversion, which makes it an ordinary one"
        )
    for name, value in settings.items():
        if name not in (*_USED, *_WITHOUT_EFFECT) and value not in (None, False, "", [], {}):
            raise InputError(f"{file} uses {name}, which pivotrl cannot merge exactly; {mend}")


def _check_numbers(folder: Path, settings: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    ranks = {"r": settings["r"], **_pattern(folder, settings, "rank_pattern")}
    alphas = {"lora_alpha": settings["lora_alpha"], **_pattern(folder, settings, "alpha_pattern")}
    longest = max((size for tensor in tensors.values() for size in tensor.shape), default=0)
    for name, rank in ranks.items():
        if type(rank) is not int or not 1 <= rank <= longest:
            raise InputError(f"{folder / CONFIG}: {name} is {rank!r}, but no tensor of {WEIGHTS} has that rank")
    for name, alpha in alphas.items():
        if type(alpha) not in (int, float) or not math.isfinite(alpha):
            raise InputError(f"{folder / CONFIG}: {name} is {alpha!r}, not a number; save the adapter again")


def _pattern(folder: Path, settings: dict[str, Any], name: str) -> dict[str, Any]:
    pattern = settings.get(name) or {}
    if not isinstance(pattern, dict):
        raise InputError(f"{folder / CONFIG}: {name} is not an object; save the adapter again")
    return pattern


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    file = folder / WEIGHTS
    if not file.is_file():
        other = next((path.name for path in sorted(folder.glob("adapter_model*"))), None)
        found = f"only {other}, which is not read because it may contain code" if other else "no weights"
        raise InputError(f"{folder} holds {found}; save the adapter as safetensors ({WEIGHTS})")
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read: {first_line(error)}. Fetch or save it again") from error
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise InputError(f"{file}: {name} holds {tensor.dtype}, not floating-point numbers; save it in float32")
        if not torch.isfinite(tensor.float()).all():
            raise InputError(f"{file}: {name} has values that are not finite; the adapter is damaged, use another")
    return {name: tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for name, tensor in tensors.items()}
