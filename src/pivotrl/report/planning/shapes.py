"""Shapes of decoder models: how many parameters they have, and what a token of them keeps in memory."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pivotrl.options import InputError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([bBmM])\Z")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


@dataclass(frozen=True)
class ModelShape:
    """A dense decoder with gated feed-forward layers, such as Llama or Qwen."""

    name: str
    layers: int
    width: int
    """d, size of a hidden state."""
    heads: int
    key_heads: int
    head_size: int
    inner: int
    """I, width of the feed-forward layer."""
    vocabulary: int
    is_tied: bool
    """Whether the output layer is the embedding."""

    @property
    def _sizes(self) -> tuple[int, int]:
        """Widths of all queries, and of all keys."""
        return self.heads * self.head_size, self.key_heads * self.head_size

    @property
    def layer_parameters(self) -> int:
        """Of one layer's matrices."""
        queries, keys = self._sizes
        return self.width * (2 * queries + 2 * keys) + 3 * self.width * self.inner

    @property
    def parameters(self) -> int:
        norms = self.width * (2 * self.layers + 1)
        embeddings = self.vocabulary * self.width * (1 if self.is_tied else 2)
        return self.layers * self.layer_parameters + norms + embeddings

    def lora_parameters(self, rank: int) -> int:
        """Of an adapter on all matrices of the layers."""
        queries, keys = self._sizes
        attention = 2 * (self.width + queries) + 2 * (self.width + keys)
        return self.layers * rank * (attention + 3 * (self.width + self.inner))

    def kept_bytes(self, weight_bytes: float, lora_rank: int = 0) -> float:
        """Bytes that a token keeps in one layer for the backward (docs/engine.md).

        Args:
            weight_bytes: of a number; below 4, norms and the adapter still compute in fp32.
            lora_rank: rank of the trained adapter; 0: all weights are trained.
        """
        queries, keys = self._sizes
        shared = 2 * queries + 2 * keys + 4 * self.inner
        is_half = weight_bytes < 4
        if not lora_rank:
            return weight_bytes * ((8 if is_half else 6) * self.width + shared)
        down = 7 * lora_rank
        if not is_half:
            return weight_bytes * (4 * self.width + shared + down)
        # peft widens what goes into each adapted matrix
        return weight_bytes * (2 * self.width + shared) + 4 * (5 * self.width + queries + self.inner + down)

    def cached_bytes(self, weight_bytes: float) -> float:
        """Bytes of the keys and values of a token in all layers."""
        return weight_bytes * 2 * self.layers * self._sizes[1]

    def forward_flops(self, context: float) -> float:
        """Floating-point operations of a token that sees so many others, without the output layer."""
        return 2.0 * self.layers * self.layer_parameters + 4.0 * self.layers * self._sizes[0] * context

    @property
    def head_flops(self) -> float:
        """Of the output layer, for a token."""
        return 2.0 * self.width * self.vocabulary


KNOWN = (
    ModelShape("SmolLM2-135M", 30, 576, 9, 3, 64, 1536, 49_152, True),
    ModelShape("Qwen2.5-0.5B", 24, 896, 14, 2, 64, 4864, 151_936, True),
    ModelShape("Llama-3.2-1B", 16, 2048, 32, 8, 64, 8192, 128_256, True),
    ModelShape("Qwen2.5-1.5B", 28, 1536, 12, 2, 128, 8960, 151_936, True),
    ModelShape("Qwen2.5-3B", 36, 2048, 16, 2, 128, 11_008, 151_936, True),
    ModelShape("Qwen3-4B", 36, 2560, 32, 8, 128, 9728, 151_936, True),
    ModelShape("Qwen2.5-7B", 28, 3584, 28, 4, 128, 18_944, 152_064, False),
    ModelShape("Llama-3.1-8B", 32, 4096, 32, 8, 128, 14_336, 128_256, False),
    ModelShape("Qwen2.5-14B", 48, 5120, 40, 8, 128, 13_824, 152_064, False),
    ModelShape("Qwen2.5-32B", 64, 5120, 40, 8, 128, 27_648, 152_064, False),
    ModelShape("Llama-3.1-70B", 80, 8192, 64, 8, 128, 28_672, 128_256, False),
)
"""Public configurations that stand for a size."""


def shape_of(text: str) -> ModelShape:
    """The shape of a size such as ``8B`` or ``500M``, or of a model folder.

    A size stands for the public model next to it, with as many layers as the size needs.

    Raises:
        InputError: it is neither, or the folder's model is not a dense decoder.
    """
    size = _SIZE.match(text.strip())
    if size is None:
        return shape_of_folder(Path(text), text)
    wanted = float(size[1]) * (1e9 if size[2] in "bB" else 1e6)
    if not 1e8 <= wanted <= 1e12:
        raise InputError(f"--model-size {text} is out of range; give a size between 100M and 1000B, or a folder")
    near = min(KNOWN, key=lambda shape: abs(math.log(shape.parameters / wanted)))
    if abs(near.parameters / wanted - 1) < 0.1:
        return near
    rest = near.parameters - near.layers * near.layer_parameters
    layers = max(1, round((wanted - rest) / near.layer_parameters))
    return dataclasses.replace(near, name=f"{near.name} with {layers} layers", layers=layers)


def shape_of_folder(folder: Path, name: str) -> ModelShape:
    """From the ``config.json`` of a model folder.

    Raises:
        InputError: as :func:`shape_of`.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise InputError(f"--model-size {name} is neither a size such as 8B nor a folder with a config.json")
    try:
        config: Any = json.loads(file.read_text("utf-8"))
        return _shape(config.get("text_config", config), name)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file} does not describe a dense decoder such as Llama ({type(error).__name__}: {error}); give a size "
            "such as --model-size 8B"
        ) from error


def _shape(config: Mapping[str, Any], name: str) -> ModelShape:
    if any(config.get(key) for key in _EXPERTS):
        raise ValueError("it is a mixture of experts")
    heads = int(config["num_attention_heads"])
    return ModelShape(
        name=name,
        layers=int(config["num_hidden_layers"]),
        width=int(config["hidden_size"]),
        heads=heads,
        key_heads=int(config.get("num_key_value_heads") or heads),
        head_size=int(config.get("head_dim") or config["hidden_size"] // heads),
        inner=int(config["intermediate_size"]),
        vocabulary=int(config["vocab_size"]),
        is_tied=bool(config.get("tie_word_embeddings", False)),
    )
