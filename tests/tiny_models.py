"""Small random networks of each family the engine must serve."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    FalconH1Config,
    Gemma2Config,
    Gemma3TextConfig,
    GptOssConfig,
    GraniteConfig,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
    Qwen3NextConfig,
)

from pivotrl.engine.items import Item
from pivotrl.engine.split_attention import NAME

VOCABULARY = 64
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,  # far from uniform outputs, so that a wrong mask or position shows
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_GATED = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}

SPLIT: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, {}),
    "qwen2": (Qwen2Config, {}),
    "qwen3": (Qwen3Config, {"head_dim": 8}),
    "mistral, window never reached": (MistralConfig, {"sliding_window": 250}),
    "mistral, beyond its window": (MistralConfig, {"sliding_window": 9}),
    "gemma3": (
        Gemma3TextConfig,
        {"head_dim": 8, "sliding_window": 9, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "qwen3 moe": (Qwen3MoeConfig, {"head_dim": 8, **_EXPERTS}),
    "granite, scaled logits": (GraniteConfig, {"logits_scaling": 3.0, "embedding_multiplier": 2.0}),
}
"""Families that attend in a way that can be split."""

CACHE: dict[str, tuple[Any, dict[str, Any]]] = {
    "qwen3-next": (
        Qwen3NextConfig,
        {
            "head_dim": 8,
            "layer_types": ["linear_attention", "full_attention"],
            "shared_expert_intermediate_size": 16,
            **_GATED,
            **_EXPERTS,
        },
    ),
    "falcon-h1": (
        FalconH1Config,
        {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "head_dim": 8},
    ),
    "lfm2": (Lfm2Config, {"block_ff_dim": 48, "layer_types": ["conv", "full_attention"]}),
    "gemma2, soft caps": (Gemma2Config, {"head_dim": 8}),
    "gpt-oss, sinks": (GptOssConfig, {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2}),
}
"""Families with states, sinks or caps that only their own code knows."""

_OWN_ATTENTION = ("gemma2, soft caps", "gpt-oss, sinks")
_HAVE_EXPERTS = ("qwen3 moe", "qwen3-next", "gpt-oss, sinks")


def make_model(family: str, dtype: torch.dtype = torch.float32, seed: int = 0, **more: Any) -> Any:
    """``more``: options of the configuration."""
    config_class, options = {**SPLIT, **CACHE}[family]
    torch.manual_seed(seed)
    extra = {"experts_implementation": "eager"} if family in _HAVE_EXPERTS else {}
    return (
        AutoModelForCausalLM.from_config(
            config_class(**{**_SIZES, **options, **more}),
            attn_implementation="eager" if family in _OWN_ATTENTION else NAME,
            **extra,
        )
        .to(dtype)
        .eval()
    )


def random_items(seed: int, longest: int = 60) -> list[Item]:
    """One to five prompts, most of them nested prefixes of one trunk, with one to five completions each; among them
    prompts and completions of one token, equal prompts, and completions that go on as the trunk does."""
    generator = random.Random(seed)

    def tokens(length: int) -> list[int]:
        return [generator.randrange(3, VOCABULARY) for _ in range(length)]

    trunk, items = tokens(longest), []
    for _ in range(generator.randint(1, 5)):
        end = generator.choice([1, generator.randint(1, longest), generator.randint(1, longest)])
        prompt = trunk[:end] if generator.random() < 0.8 else tokens(end)
        completions = [
            tokens(generator.choice([1, 2, generator.randint(1, 12)])) for _ in range(generator.randint(1, 5))
        ]
        if generator.random() < 0.3:
            completions.append([*trunk[end : end + 5], *tokens(2)])
        if generator.random() < 0.3:
            completions.append(list(completions[0]))
        items.append(Item(prompt, completions))
    return items


def weights_of(items: Sequence[Item]) -> torch.Tensor:
    """A weight per completion token, of both signs."""
    return torch.linspace(-1.0, 2.0, sum(item.num_scored for item in items))
