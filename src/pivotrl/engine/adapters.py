"""Merges a LoRA adapter into a model exactly as it was trained, or refuses it. Nothing is dropped silently."""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from peft import PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from torch import Tensor

from pivotrl.engine.adapter_files import WEIGHTS, AdapterFiles
from pivotrl.engine.low_rank import LowRank, plain_additions
from pivotrl.protocols import InputError
from pivotrl.protocols.errors import first_line

_REMEDY = "Give the adapter of this model, as peft saved it"
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}
_TOLERANCE_HALF = 0.1
"""Largest difference between the logits before and after merging, relative to their size. Rounding of half-precision
weights alone gives a few hundredths."""


class Merged(NamedTuple):
    """A model with an adapter merged into its weights.

    ``additions``: what the adapter added to each linear layer; None if it changed anything else.
    """

    model: Any
    additions: dict[str, LowRank] | None


def merge_adapter(model: Any, adapter: AdapterFiles) -> Merged:
    """Merge the adapter into the model's weights. Do not use the model passed in afterwards.

    Checks that every tensor of the file is used, that no tensor is missing, and that the logits of a few tokens equal
    those of the unmerged adapter. Tied weights are untied if the adapter changes them in one place only.

    Raises:
        InputError: the adapter belongs to another model, is incomplete, or cannot be merged exactly.
    """
    dtypes = {name: parameter.dtype for name, parameter in model.named_parameters()}
    with quiet():
        adapted = _with_adapter(model, adapter)
        changed = _load(adapted, adapter)
        try:
            token_ids = _probe(adapted, adapter)
            before = _logits(adapted, token_ids)
            untied = _untie(adapted)
            additions = None if changed or untied else plain_additions(adapted)
            merged = adapted.merge_and_unload()
        except Exception as error:  # peft raises many kinds of errors
            raise _misfit(adapter, f"cannot be merged: {first_line(error)}") from error
    _keep_dtypes(merged, dtypes)
    _settle_tying(merged)
    _compare(before, _logits(merged, token_ids), merged.dtype, adapter)
    return Merged(merged, additions)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide peft's advice, which does not apply to our users."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _with_adapter(model: Any, adapter: AdapterFiles) -> PeftModel:
    try:
        with torch.random.fork_rng(devices=[]):
            adapted = get_peft_model(model, adapter.config)
    except Exception as error:  # settings are data, and peft fails on wrong ones in many ways
        raise _misfit(adapter, f"does not fit the model: {first_line(error)}") from error
    names = {name for name, _ in adapted.get_base_model().named_modules()}
    for wanted in adapter.config.modules_to_save or ():
        if not any(f".{name}".endswith(f".{wanted}") for name in names):
            raise _misfit(adapter, f"has {wanted!r} in its modules_to_save, which the model lacks")
    adapted.eval()
    return adapted


def _load(adapted: PeftModel, adapter: AdapterFiles) -> bool:
    """Load the tensors; returns whether the file changes the model's own weights."""
    wanted = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    allowed = get_peft_model_state_dict(adapted, save_embedding_layers=True)  # peft saves these too, for some models
    missing, extra = wanted.keys() - adapter.tensors.keys(), adapter.tensors.keys() - allowed.keys()
    if missing or extra:
        told = [f"lacks {_some(missing)}"] if missing else []
        told += [f"holds {_some(extra)}, for which the model has no place"] if extra else []
        raise _misfit(adapter, f"does not fit the model: {WEIGHTS} {' and '.join(told)}")
    for name, tensor in adapter.tensors.items():
        if tensor.shape != allowed[name].shape:
            raise _misfit(
                adapter,
                f"does not fit the model: {name} has the shape {list(tensor.shape)}, not {list(allowed[name].shape)}",
            )
    beside = (name for name in adapter.tensors if ".lora_" not in name)
    changed = not all(_is_equal(allowed[name], adapter.tensors[name]) for name in beside)
    set_peft_model_state_dict(adapted, dict(adapter.tensors))
    loaded = get_peft_model_state_dict(adapted, save_embedding_layers=True)
    for name, tensor in adapter.tensors.items():
        if not _is_equal(loaded[name], tensor):
            raise _misfit(adapter, f"holds two values for one tensor of the model ({name})")
    return changed


def _is_equal(held: Tensor, given: Tensor) -> bool:
    return torch.equal(held.cpu(), given.to(held.dtype))


def _untie(adapted: PeftModel) -> bool:
    """Give adapted layers their own weights, so merging changes no other layer. Returns whether any were shared."""
    owners = Counter(id(p) for module in adapted.modules() for p in module._parameters.values() if p is not None)
    shared = False
    for layer in adapted.modules():
        if not isinstance(layer, LoraLayer):
            continue
        base = layer.get_base_layer()
        for name, parameter in base._parameters.items():
            if parameter is not None and owners[id(parameter)] > 1:
                base._parameters[name] = torch.nn.Parameter(parameter.detach().clone(), requires_grad=False)
                shared = True
    return shared


def _keep_dtypes(model: Any, dtypes: Mapping[str, torch.dtype]) -> None:
    """Restore the dtypes, since copies of whole modules come in single precision even if the model has half."""
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(dtypes.get(name, model.dtype))


def _settle_tying(model: Any) -> None:
    """Make the configuration state correctly whether embeddings and output layer are tied, so that a saved model loads
    as the same model."""
    first, last = model.get_input_embeddings(), model.get_output_embeddings()
    if first is not None and last is not None and first.weight is not last.weight:
        for config in {id(c): c for c in (model.config, model.config.get_text_config())}.values():
            if getattr(config, "tie_word_embeddings", False):
                config.tie_word_embeddings = False


def _probe(model: Any, adapter: AdapterFiles) -> Tensor:
    """Token ids [1, T]: a sample of the whole vocabulary, and the ids that the adapter trained."""
    size = model.get_input_embeddings().weight.shape[0]
    trained = adapter.config.trainable_token_indices or []
    listed = [i for ids in trained.values() for i in ids] if isinstance(trained, dict) else list(trained)
    inside = [number for number in listed if 0 <= number < size]
    return torch.tensor([[*inside[:64], *range(0, size, max(1, size // 16))]], device=model.device)


@torch.no_grad()
def _logits(model: Any, token_ids: Tensor) -> Tensor:
    logits: Tensor = model(input_ids=token_ids, use_cache=False).logits.float()
    return logits


def _compare(before: Tensor, after: Tensor, dtype: torch.dtype, adapter: AdapterFiles) -> None:
    difference = ((after - before).norm() / before.norm()).item()
    if not difference <= _TOLERANCE.get(dtype, _TOLERANCE_HALF):
        raise _misfit(
            adapter,
            f"cannot be merged exactly: it changes the model's logits by {difference:.2g} of their size. Merge it with "
            "the program that made it and pass the result as --model",
            remedy="",
        )


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ordered[0] + (f" and {len(ordered) - 1} more" if len(ordered) > 1 else "")


def _misfit(adapter: AdapterFiles, fault: str, remedy: str = _REMEDY) -> InputError:
    return InputError(f"the adapter {adapter.folder} {fault}" + (f". {remedy}" if remedy else ""))
