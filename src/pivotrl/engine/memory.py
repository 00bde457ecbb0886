"""How many tokens of a training pass fit, by formula.

The same machine gives the same number at every start: a budget that followed the memory that happens to be free would
cut batches differently when a run goes on, and change its bits.
"""

from __future__ import annotations

from typing import Any

import torch

_CPU_BYTES = 2 << 30
_CUDA_SHARE = 0.4
"""Of the device's memory, for activations; weights, optimizer state and a trunk's keys and values need the rest."""
_MULTIPLE = 256


def bytes_per_token(config: Any, dtype: torch.dtype) -> int:
    """Activations that a layer-by-layer backward keeps for one token: b (4 d + 2 H D + 2 Hkv D + 3 I) a layer.

    Args:
        config: of a text model, with hidden size d, H heads and Hkv key heads of size D, and I intermediate numbers
            (of all experts that a token visits).
        dtype: of the activations, b bytes a number.
    """
    heads = getattr(config, "num_attention_heads", None) or 1  # a state-space model has none
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    experts = getattr(config, "num_experts_per_tok", None)
    inner = getattr(config, "moe_intermediate_size", None) or getattr(config, "intermediate_size", None)
    intermediate = int(inner or 4 * config.hidden_size) * int(experts or 1)
    numbers = 4 * config.hidden_size + 2 * (heads + key_heads) * size + 3 * intermediate
    return int(numbers * dtype.itemsize * config.num_hidden_layers)


def tokens_that_fit(config: Any, dtype: torch.dtype, device: torch.device) -> int:
    """Tokens whose activations may be kept at once: a multiple of 256, and at least that."""
    budget: float = _CPU_BYTES
    if device.type == "cuda":
        budget = _CUDA_SHARE * torch.cuda.get_device_properties(device).total_memory
    return max(1, int(budget) // bytes_per_token(config, dtype) // _MULTIPLE) * _MULTIPLE
