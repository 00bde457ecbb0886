"""Load a causal language model and its tokenizer: a Hugging Face id, a folder, or the packaged SmolLM2."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from pivotrl.engine import smollm2, split_attention
from pivotrl.protocols import InputError
from pivotrl.store import sha256_of_file

Dtype = Literal["auto", "float32", "bfloat16"]


def resolve_device(device: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def resolve_dtype(dtype: Dtype, device: torch.device) -> torch.dtype:
    """``auto`` is bf16 on CUDA and fp32 on the CPU."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]


def load_model(name: str, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any, dict[str, str]]:
    """(model in evaluation mode, tokenizer, identity).

    Never runs code that comes with a model (``trust_remote_code`` stays off) and never unpickles weights.

    Raises:
        InputError: the folder is no model, or the id is unknown or cannot be reached.
    """
    where = _locate(name)
    with _loading(name):
        tokenizer = AutoTokenizer.from_pretrained(where)
        try:
            model = _load(where, dtype, split_attention.NAME)
            with torch.no_grad():  # some say only when called that they need their own attention
                model(torch.ones(1, 2, dtype=torch.long))
        except (ValueError, KeyError):
            model = _load(where, dtype, "eager")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    identity = _folder_identity(Path(where)) if Path(where).is_dir() else {"model": name}
    return model.to(device).eval(), tokenizer, identity


def load_tokenizer(name: str) -> Any:
    """The tokenizer alone.

    Raises:
        InputError: as :func:`load_model`.
    """
    where = _locate(name)
    with _loading(name):
        return AutoTokenizer.from_pretrained(where)


def _locate(name: str) -> str:
    source = smollm2.fetch() if name == smollm2.NAME else Path(name)
    if not source.exists():
        return name
    if not (source / "config.json").is_file():
        raise InputError(f"{source} is not a model folder: it has no config.json. Give a folder saved by transformers")
    return str(source)


@contextlib.contextmanager
def _loading(name: str) -> Iterator[None]:
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"cannot load the model {name!r}: {reason}. Give {smollm2.NAME!r}, a folder saved by transformers "
            "(safetensors), or a Hugging Face id that can be reached"
        ) from error


def _load(where: str, dtype: torch.dtype, attention_name: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        where, dtype=dtype, attn_implementation=attention_name, use_safetensors=True
    )


def _folder_identity(folder: Path) -> dict[str, str]:
    files = sorted(folder.glob("*.safetensors")) + [folder / "config.json", folder / "tokenizer.json"]
    return {file.name: sha256_of_file(file) for file in files if file.is_file()}
