"""Refuses models that config.json shows to be unusable here, with one sentence each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import transformers
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
)

from pivotrl.protocols import InputError

_LANGUAGE_MODELS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_QUANTISED = ("quantization_config", "quantization", "compression_config")


def cannot_load(name: str, model_type: str) -> str:
    """The beginning of every refusal of a model."""
    return f"cannot load the model {name!r} of type {model_type!r}"


def reason_of(error: Exception) -> str:
    """An error of transformers in one line, without its advice to trust code."""
    if "trust_remote_code" in str(error):
        return "it brings code of its own, which never runs here"
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"


def read_config(folder: Path, name: str) -> Any:
    """The configuration of a folder whose model type transformers itself knows.

    Raises:
        InputError: config.json cannot be read, its model type is unknown and would need code that comes with the model,
            or the weights are quantised.
    """
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{folder / 'config.json'} is not JSON ({error}); copy it again") from error
    if not isinstance(content, dict) or not isinstance(content.get("model_type"), str):
        raise InputError(f"{folder / 'config.json'} names no model_type; give a folder saved by transformers")
    kind = content["model_type"]
    if kind not in CONFIG_MAPPING:
        own = "it brings code of its own, which never runs here; " if "auto_map" in content else ""
        raise InputError(
            f"cannot load the model {name!r}: transformers {transformers.__version__} does not know the model type "
            f"{kind!r}; {own}give a model whose type it knows, or install a newer transformers"
        )
    if method := _quantisation(content):
        raise InputError(
            f"{cannot_load(name, kind)}: its weights are quantised ({method}); load full-precision weights (bf16 or "
            "fp32)"
        )
    try:
        return AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:  # each configuration class checks itself
        raise InputError(
            f"{cannot_load(name, kind)}: its config.json is not valid ({reason_of(error)}); copy it again from the "
            "model it was made from"
        ) from error


def language_model_class(folder: Path, config: Any, name: str, needs_weights: bool = True) -> Any:
    """The class of transformers that loads the model.

    Args:
        needs_weights: False: config.json suffices.

    Raises:
        InputError: the model has an encoder or does not write text, or its weights are not safetensors.
    """
    start = f"{cannot_load(name, config.model_type)}: "
    classes = [str(each) for each in config.architectures or ()]
    if config.is_encoder_decoder:
        raise InputError(f"{start}it is an encoder-decoder; give a decoder-only language model")
    if (folder / "modules.json").is_file():
        raise InputError(f"{start}it is an embedding model of sentence-transformers; give a chat model")
    if classes and not any(each.endswith(_LANGUAGE_MODELS) for each in classes):
        raise InputError(f"{start}it was saved as {classes[0]}, which does not generate text; give a ...ForCausalLM")
    if needs_weights:
        require_safetensors(folder, start)
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM
    if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return AutoModelForImageTextToText
    raise InputError(f"{start}transformers has no causal language model of that type; give one that writes text")


def require_end_tokens(folder: Path, start: str) -> None:
    """Refuse an unreadable generation_config.json, since transformers would silently ignore it and its end tokens.

    Raises:
        InputError: the file is not a JSON object, or its end tokens are not ids. The message begins with ``start``.
    """
    file = folder / "generation_config.json"
    if not file.is_file():
        return
    try:
        named = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
        ids = named if isinstance(named, list) else [] if named is None else [named]
        if not all(type(each) is int for each in ids):
            raise ValueError(f"eos_token_id is {named!r}")
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{start}: its generation_config.json cannot be read ({error}); copy it again, or delete it to use "
            "the end token of config.json"
        ) from error


def require_safetensors(folder: Path, start: str) -> None:
    """
    Raises:
        InputError: the folder holds no such weights. The message begins with ``start``.
    """
    if any(folder.glob("*.safetensors")):
        return
    found = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth", "*.gguf") for file in folder.glob(pattern))
    held = f"only {found[0]}" if found else "no weights"
    raise InputError(
        f"{start}the folder holds {held}, and only safetensors are loaded (a pickle can run code); load it where you "
        "trust it and save it again with model.save_pretrained(folder)"
    )


def _quantisation(config: dict[str, Any]) -> str | None:
    """How the weights are packed; None for full precision."""
    for part in (config, config.get("text_config")):
        for settings in (part.get(key) for key in _QUANTISED) if isinstance(part, dict) else ():
            if isinstance(settings, dict) and settings:
                bits = settings.get("bits") or (4 if settings.get("load_in_4bit") else None)
                return f"{settings.get('quant_method', 'unknown method')}{f', {bits} bits' if bits else ''}"
    return None
