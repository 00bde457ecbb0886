"""Loads a causal language model and its tokenizer: a Hugging Face id, a folder, or the packaged SmolLM2.

A model is used as its configuration says, or refused with one sentence. Code that comes with a model never runs, and
weights are never unpickled.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate, Shard
from transformers.distributed import DistributedConfig
from transformers.utils import logging as transformers_logging

from pivotrl.engine import split_attention
from pivotrl.engine.configuration import (
    cannot_load,
    language_model_class,
    read_config,
    reason_of,
    require_end_tokens,
)
from pivotrl.engine.locating import address, locate
from pivotrl.engine.tokenizers import require_ids, tokenizer_in
from pivotrl.protocols import InputError
from pivotrl.protocols.errors import first_line
from pivotrl.storage.record_files import sha256_of_file

Dtype = Literal["auto", "float32", "bfloat16"]

TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-3, torch.bfloat16: 0.25, torch.float16: 0.1}
"""Largest difference between two computations of a log-probability, in nats. A wrong mask, state or layer causes far
more."""

_BUFFERS = ("inv_freq", "attn.bias", "attn.masked_bias", "attention.bias", "attention.masked_bias")
"""Tensors in older checkpoints that are computed, not trained."""

_logger = logging.getLogger(__name__)


def resolve_device(device: str) -> torch.device:
    """``auto`` is CUDA if available, otherwise the CPU.

    Raises:
        InputError: the device does not exist.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"no device {device!r} here ({first_line(error)}); give 'cpu', 'cuda' or 'auto'") from error
    return resolved


def resolve_dtype(dtype: Dtype, device: torch.device) -> torch.dtype:
    """``auto`` is bf16 on CUDA and fp32 on the CPU.

    Raises:
        InputError: the dtype is not supported. fp16 would need loss scaling.
    """
    if dtype not in get_args(Dtype):
        raise InputError(f"dtype must be one of {', '.join(get_args(Dtype))}, not {dtype!r}")
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]


def load_model(
    name: str, device: torch.device, dtype: torch.dtype, num_parts: int = 1
) -> tuple[Any, Any, dict[str, str]]:
    """(model in evaluation mode, tokenizer, identity).

    Args:
        num_parts: this many processes load it together, each a part of every layer.

    Raises:
        InputError: the model does not exist or cannot be used; the message says why and what to give instead.
    """
    folder = locate(name)
    config = read_config(folder, name)
    auto_class = language_model_class(folder, config, name)
    if num_parts > 1:
        _require_plan(config.get_text_config(), num_parts, name)
    require_end_tokens(folder, cannot_load(name, config.model_type))
    with quiet_loading():
        tokenizer = tokenizer_in(folder, name)
        with refusing(cannot_load(name, config.model_type)):
            model = _load(auto_class, folder, dtype, name, num_parts)
            model = (model.to(device) if num_parts == 1 else model).eval()
            _choose_attention(model)
            _require_next_tokens(model, name)
    require_ids(tokenizer, min(len(model.get_input_embeddings().weight), num_outputs(model)), name)
    model.config.name_or_path = address(name, folder)
    return model, tokenizer, _folder_identity(folder)


def load_empty_model(name: str, dtype: torch.dtype, is_tied: bool) -> Any:
    """The model in evaluation mode as :func:`load_model` gives it, on the meta device, where it has no weights.

    Args:
        is_tied: whether the output layer is the embedding.

    Raises:
        InputError: the model does not exist or cannot be used.
    """
    folder = locate(name)
    config = read_config(folder, name)
    auto_class = language_model_class(folder, config, name)
    if not is_tied:
        for each in (config, config.get_text_config()):
            each.tie_word_embeddings = False
    with quiet_loading(), refusing(cannot_load(name, config.model_type)), torch.device("meta"):
        model = auto_class.from_config(config, dtype=dtype, trust_remote_code=False)
    model.config.name_or_path = address(name, folder)
    return model.eval()


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence transformers; our own messages say what matters."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    yield


@contextlib.contextmanager
def refusing(start: str) -> Iterator[None]:
    """Turn any error from a model's code into one sentence that refuses the model.

    Raises:
        InputError: with ``start``, the reason and a remedy.
    """
    try:
        yield
    except (InputError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # hundreds of architectures, each with its own faults
        raise InputError(
            f"{start}: {reason_of(error)}. Give a decoder-only model that docs/limits.md lists, saved by "
            "transformers as safetensors"
        ) from error


def num_outputs(model: Any) -> int:
    """Number of tokens that the model can choose from."""
    layer = model.get_output_embeddings()
    if layer is None:
        raise InputError(f"{type(model).__name__} has no output layer; give a model that was trained to write text")
    return int(layer.weight.shape[0])


def load_part(model: Any, dtype: torch.dtype, num_parts: int) -> Any:
    """The weights of a loaded model again, without gradients: a part of every layer."""
    folder = locate(model.config.name_or_path)
    with quiet_loading():
        again = _load(type(model), folder, dtype, model.config.name_or_path, num_parts).eval()
    again.set_attn_implementation(model.config.get_text_config()._attn_implementation)
    again.config.name_or_path = model.config.name_or_path
    return again.requires_grad_(False)


def _require_plan(config: Any, num_parts: int, name: str) -> None:
    """
    Raises:
        InputError: transformers cannot cut the layers into so many parts.
    """
    if not getattr(config, "base_model_tp_plan", None):
        raise InputError(
            f"transformers has no plan to cut the layers of {name!r}, of type {config.model_type!r}; leave out "
            "parallel='tensor'"
        )
    for kind in ("num_attention_heads", "num_key_value_heads"):
        number = getattr(config, kind, None) or num_parts
        if number % num_parts:
            raise InputError(
                f"{num_parts} processes cannot each have a part of the layers of {name!r}: its {kind} is {number}; use "
                "a number of processes that divides it, or leave out parallel='tensor'"
            )


def _require_plain_parts(model: Any, name: str) -> None:
    """
    Raises:
        InputError: a weight is cut into pieces that do not lie side by side, so that a checkpoint could not hold them.
    """
    for weight, parameter in model.named_parameters():
        if isinstance(parameter, DTensor) and any(
            type(each) not in (Shard, Replicate) for each in parameter.placements
        ):
            raise InputError(
                f"the plan of transformers for {name!r} cuts {weight} into pieces that do not lie side by side, which "
                "checkpoints cannot hold; leave out parallel='tensor'"
            )


def _load(auto_class: Any, folder: Path, dtype: torch.dtype, name: str, num_parts: int) -> Any:
    """
    Raises:
        InputError: weights are missing, or there is no plan to cut the layers for several processes.
    """
    together = {} if num_parts == 1 else {"distributed_config": DistributedConfig(tp_size=num_parts, tp_plan="auto")}
    model, info = auto_class.from_pretrained(
        str(folder),
        dtype=dtype,
        use_safetensors=True,
        output_loading_info=True,
        trust_remote_code=False,
        **together,
    )
    _require_all_weights(model, info, name)
    if num_parts > 1:
        _require_plain_parts(model, name)
    return model


def _require_all_weights(model: Any, info: dict[str, Any], name: str) -> None:
    """
    Raises:
        InputError: the files lack a weight, which would be random, or hold a weight of a layer that computes without
            it.
    """
    unlike = sorted(str(each[0] if isinstance(each, tuple) else each) for each in info["mismatched_keys"])
    missing = sorted(info["missing_keys"]) or unlike
    start = cannot_load(name, model.config.model_type)
    if missing:
        raise InputError(
            f"{start}: its files hold no weights that fit {_listed(missing)}; config.json and *.safetensors "
            "are not of one model"
        )
    modules = dict(model.named_modules())
    unused = sorted(key for key in info["unexpected_keys"] if not key.endswith(_BUFFERS))
    if any(_belongs(key, modules) for key in unused):
        raise InputError(
            f"{start}: transformers has no place for its weights {_listed(unused)}; config.json and "
            "*.safetensors are not of one model"
        )
    if unused:
        _logger.warning("%s: weights that are not used: %s", name, _listed(unused))


def _belongs(key: str, modules: dict[str, Any]) -> bool:
    """Whether a tensor belongs to a layer of the model, or to a layer beyond its last one."""
    layer, _, _ = key.rpartition(".")
    numbered = re.match(r"(.*?)\.\d+\.", key)
    more = numbered is not None and isinstance(modules.get(numbered[1]), torch.nn.ModuleList)
    return more or hasattr(modules.get(layer), "weight")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _choose_attention(model: Any) -> None:
    """Use our attention if it reproduces the model's own numbers; some models have sinks, caps, biases or masks that
    only their own code implements."""
    own, expected = model.config.get_text_config()._attn_implementation, _probe(model)
    try:
        model.set_attn_implementation(split_attention.NAME)
        if (expected - _probe(model)).abs().max().item() <= TOLERANCE[model.dtype]:
            return
    except Exception as error:  # each fails in its own way
        _logger.debug("%s: %s", type(model).__name__, error)
    model.set_attn_implementation(own)


def _require_next_tokens(model: Any, name: str) -> None:
    """
    Raises:
        InputError: outputs are not finite or depend on later tokens.
    """
    logprobs, start = _probe(model), cannot_load(name, model.config.model_type)
    if not torch.isfinite(logprobs).all():
        raise InputError(f"{start}: its outputs are not finite in {model.dtype}; its weights are damaged")
    if (logprobs[0, :-1] - logprobs[1, :-1]).abs().max().item() > TOLERANCE[model.dtype]:
        raise InputError(f"{start}: it reads tokens that come later, so it cannot write text; give a causal model")


@torch.no_grad()
def _probe(model: Any) -> Tensor:
    """Log-probabilities [2, T, V] after two short texts that differ in their last token."""
    num_tokens = len(model.get_input_embeddings().weight)
    tokens = [(7 * i * i + 3 * i + 5) % num_tokens for i in range(20)]
    input_ids = torch.tensor([[*tokens, 1 % num_tokens], [*tokens, 2 % num_tokens]], device=model.device)
    logits = model(input_ids=input_ids, attention_mask=torch.ones_like(input_ids), use_cache=False).logits
    return torch.log_softmax(logits.float(), dim=-1)


def _folder_identity(folder: Path) -> dict[str, str]:
    files = sorted(folder.glob("*.safetensors")) + [folder / "config.json", folder / "tokenizer.json"]
    return {file.name: sha256_of_file(file) for file in files if file.is_file()}
