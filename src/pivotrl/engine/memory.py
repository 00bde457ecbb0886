"""How large a training pass or a decoding batch may be.

What a token of a training pass keeps for the backward is counted on the model itself. A formula over the configuration
would have to know every family, which layers are trained and where numbers are widened. Nothing here looks at the
memory that happens to be free: the same model on the same machine gives the same numbers at every start. Others would
cut batches differently when a run goes on, and change its bits.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

_CPU_BYTES = 6 << 30
_CPU_SHARE = 0.25
_CUDA_SHARE = 0.5
"""Of what weights and optimizer leave of a GPU, for activations; a trunk's keys and values and the work of a layer need
the rest."""
_DECODE_SHARE = 0.1
"""Of the same, for keys and values of branches that decode together; their buffers are rounded up by as much as half in
each direction."""
_CUDA_ROWS = 512
_CPU_ROWS = 64
"""Branches that decode together at most. A step of a GPU hardly takes longer for more; a CPU has enough to do."""
_MULTIPLE = 256
_SHORT = 32
"""Tokens of the shorter of the two rows that are compared."""


def kept_bytes_per_token(model: Any) -> int:
    """Activations that a forward through the decoder keeps for the backward, bytes for each further token.

    Only what a gradient goes through counts: layers below the lowest trained one keep nothing.

    Args:
        model: a causal LM of transformers, with or without an adapter, its trained parameters asking for gradients.
    """
    return (_kept_bytes(model, 2 * _SHORT) - _kept_bytes(model, _SHORT)) // _SHORT


def _kept_bytes(model: Any, num_tokens: int) -> int:
    """Storage that the graph of one row holds, weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would hold the graph that holds it

    input_ids = torch.arange(num_tokens, device=model.device)[None] % model.config.get_text_config().vocab_size
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        # Held until all is counted: what it keeps cannot have the address of something that is gone.
        graph = model.get_decoder()(input_ids=input_ids, use_cache=False)
    total = sum(kept.values())
    del graph
    return total


def budget(model: Any) -> int:
    """Bytes for activations: half of what a GPU has left; on the CPU a quarter of the machine's, 6 GiB at most."""
    if model.device.type == "cuda":
        return int(_CUDA_SHARE * _left_of_gpu(model))
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(_CPU_BYTES, int(_CPU_SHARE * physical))


def trunk_bytes(model: Any) -> int:
    """Keys and values of running episodes that may be kept between calls. A call has a copy of them, on CUDA two, and
    all together fit into :func:`budget`."""
    return budget(model) // (4 if model.device.type == "cuda" else 2)


def _left_of_gpu(model: Any) -> int:
    """Bytes beside the weights and, for what is trained, gradients, two moments and a copy of the reference; a tenth of
    the memory at least."""
    sizes = [(parameter.nbytes, parameter.requires_grad) for parameter in model.parameters()]
    weights, trained = sum(size for size, _ in sizes), sum(size for size, asks in sizes if asks)
    total = torch.cuda.get_device_properties(model.device).total_memory
    return int(max(total - weights * (2 if trained else 1) - 3 * trained, total // 10))


def tokens_that_fit(model: Any, num_bytes: int) -> int:
    """Tokens whose activations may be kept at once: a multiple of 256, and at least that.

    Args:
        num_bytes: see :func:`budget`.
    """
    config = model.config.get_text_config()
    # Without gradients nothing is kept, yet every token passes through.
    least = config.hidden_size * config.num_hidden_layers * model.dtype.itemsize
    each = max(kept_bytes_per_token(model), int(least))
    return max(1, num_bytes // each // _MULTIPLE) * _MULTIPLE


def rows_that_fit(model: Any, num_tokens: int) -> int:
    """Branches of ``num_tokens`` tokens that may decode together, at least 1.

    Args:
        model: the one that is trained, also when its reference is sampled: both are there.
    """
    if model.device.type != "cuda":
        return _CPU_ROWS
    each = num_tokens * cached_bytes_per_token(model)
    return max(1, min(_CUDA_ROWS, int(_DECODE_SHARE * _left_of_gpu(model)) // each))


def cached_bytes_per_token(model: Any) -> int:
    """Keys and values of one token in all layers."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None) or 1  # a state-space model has none
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return int(2 * config.num_hidden_layers * key_heads * size * model.dtype.itemsize)
