"""The models of the benchmarks: the real SmolLM2-135M, or random weights in a named shape.

Speed does not depend on the weights, so ``random:qwen3-8b`` stands for a model that need not be downloaded.
"""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, Qwen3Config

from pivotrl.engine.loading import load_model

_LLAMA = {"max_position_embeddings": 131072, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def _llama(layers: int, width: int, heads: int, kv_heads: int, inner: int, vocabulary: int, tied: bool) -> LlamaConfig:
    return LlamaConfig(
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=inner,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
        **_LLAMA,
    )


def _qwen3(layers: int, width: int, heads: int, inner: int, tied: bool) -> Qwen3Config:
    return Qwen3Config(
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=heads,
        num_key_value_heads=8,
        head_dim=128,
        intermediate_size=inner,
        vocab_size=151936,
        tie_word_embeddings=tied,
        **_LLAMA,
    )


SHAPES = {
    "tiny": lambda: _llama(2, 128, 2, 1, 256, 259, True),
    "random:smollm2-135m": lambda: _llama(30, 576, 9, 3, 1536, 49152, True),
    "random:llama-1.7b": lambda: _llama(24, 2048, 32, 32, 8192, 49152, True),
    "random:qwen3-0.6b": lambda: _qwen3(28, 1024, 16, 3072, True),
    "random:qwen3-1.7b": lambda: _qwen3(28, 2048, 16, 6144, True),
    "random:qwen3-8b": lambda: _qwen3(36, 4096, 32, 12288, False),
}


def build(name: str, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    """(model in evaluation mode, tokenizer). Any other name goes to the loader of the package.

    Raises:
        InputError: no such shape, folder or id.
    """
    if name not in SHAPES:
        model, tokenizer, _ = load_model(name, device, dtype)
        return model, tokenizer
    config = SHAPES[name]()
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    return model.eval(), numbered_tokenizer(config.vocab_size)


def numbered_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Token i is the word "i": some peers insist on a tokenizer, none needs a good one."""
    words = {"<pad>": 0, "<s>": 1, "</s>": 2} | {str(i): i for i in range(3, vocabulary)}
    core = Tokenizer(models.WordLevel(words, unk_token="<pad>"))  # noqa: S106
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>")  # noqa: S106


def with_lora(model: Any, rank: int) -> Any:
    """The model with a LoRA adapter on every linear layer but the head."""
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))


def twin(model: Any, attention: str | None = "sdpa") -> Any:
    """Modules and configuration of its own around the same weights and gradients.

    Each contestant may then choose its attention or patch its forward without the others noticing.
    """
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    copied = copy.deepcopy(model, shared)
    if attention is not None:
        plain = copied.get_base_model() if hasattr(copied, "get_base_model") else copied
        plain.set_attn_implementation(attention)
    return copied
