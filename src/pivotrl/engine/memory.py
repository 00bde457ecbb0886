"""How large a training pass or a decoding batch may be.

We measure on the model itself what a token of a training pass keeps for the backward. A formula over the configuration
would have to know every family, which layers are trained and where numbers are widened. We ignore how much memory
happens to be free, so the same model on the same machine always gives the same numbers. Otherwise a resumed run would
cut batches differently, which changes its bits.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

_CPU_BYTES = 6 << 30
_CPU_SHARE = 0.25
_CUDA_SHARE = 0.5
"""Share of the GPU memory left by weights and optimizer that activations may take; a trunk's keys and values and the
work of a layer need the rest."""
_DECODE_SHARE = 0.1
"""Share of the same for keys and values of branches that decode together; rounding enlarges their buffers by up to half
in each direction."""
_CUDA_ROWS = 512
_CPU_ROWS = 64
"""Most branches that decode together. More rows hardly slow a step of a GPU; a CPU is busy with fewer."""
_MULTIPLE = 256
_SHORT = 32
"""Tokens of the shorter of the two compared rows."""


def kept_bytes_per_token(model: Any) -> int:
    """Bytes of activations per additional token that a forward through the decoder keeps for the backward.

    Only layers that a gradient passes count: layers below the lowest trained one keep nothing.

    Args:
        model: a causal LM of transformers, with or without an adapter, whose trained parameters require gradients.
    """
    return (_kept_bytes(model, 2 * _SHORT) - _kept_bytes(model, _SHORT)) // _SHORT


def _kept_bytes(model: Any, num_tokens: int) -> int:
    """Bytes of storage that the graph of one row holds, without weights."""
    weights = {_storage(parameter).data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = _storage(tensor)
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would form a reference cycle with its graph

    input_ids = torch.arange(num_tokens, device=model.device)[None] % model.config.get_text_config().vocab_size
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        # Kept alive until all is counted, so that no address is reused.
        graph = model.get_decoder()(input_ids=input_ids, use_cache=False)
    total = sum(kept.values())
    del graph
    return total


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    """Of a tensor in shards, that of this process."""
    local = getattr(tensor, "_local_tensor", tensor)
    return (local.trigger_wait() if hasattr(local, "trigger_wait") else local).untyped_storage()


def budget(model: Any) -> int:
    """Bytes for activations: half of the GPU memory left; on the CPU a quarter of the machine's, at most 6 GiB."""
    if model.device.type == "cuda":
        return int(_CUDA_SHARE * _left_of_gpu(model))
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(_CPU_BYTES, int(_CPU_SHARE * physical))


def trunk_bytes(model: Any) -> int:
    """Keys and values of running episodes that may be kept between calls. A call has a copy of them, on CUDA two, and
    all together fit into :func:`budget`."""
    return budget(model) // (4 if model.device.type == "cuda" else 2)


def _left_of_gpu(model: Any) -> int:
    """Bytes left by the weights and, if anything is trained, by gradients, two moments and a copy of the reference; at
    least a tenth of the memory."""
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
    # Without gradients nothing is kept, but every token still passes through.
    least = config.hidden_size * config.num_hidden_layers * model.dtype.itemsize
    each = max(kept_bytes_per_token(model), int(least))
    return max(1, num_bytes // each // _MULTIPLE) * _MULTIPLE


def rows_that_fit(model: Any, num_tokens: int) -> int:
    """Branches of ``num_tokens`` tokens that may decode together, at least 1.

    Args:
        model: the trained model, even if its reference is sampled, since both are in memory.
    """
    if model.device.type != "cuda":
        return _CPU_ROWS
    each = num_tokens * cached_bytes_per_token(model)
    return max(1, min(_CUDA_ROWS, int(_DECODE_SHARE * _left_of_gpu(model)) // each))


def cached_bytes_per_token(model: Any) -> int:
    """Bytes of the keys and values of one token in all layers."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None) or 1  # a state-space model has none
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return int(2 * config.num_hidden_layers * key_heads * size * model.dtype.itemsize)
