"""Shapes of decoder models: how many parameters they have, and what a token of them keeps in memory."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path

from pivotrl.engine.counts import Counts
from pivotrl.options import InputError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([bBmM])\Z")


@dataclass(frozen=True, kw_only=True)
class ModelShape(Counts):
    """A decoder, as far as memory and time depend on it."""

    name: str

    @property
    def inner(self) -> float:
        """I, width of the gated feed-forward layer that a token passes; of all its experts together."""
        return (self.active_layers - self.attention) / (3 * self.width * self.layers)

    def lora_parameters(self, rank: int) -> int:
        """Of an adapter on all linear layers within the layers."""
        return rank * self.adapter_width

    def kept_bytes(self, weight_bytes: float, lora_rank: int = 0) -> float:
        """Bytes that a token keeps in one layer for the backward (docs/engine.md).

        Args:
            weight_bytes: of a number; below 4, norms and the adapter still compute in fp32.
            lora_rank: rank of the trained adapter; 0: all weights are trained.
        """
        queries, keys, inner = self.queries, self.cached / self.layers / 2, self.inner
        shared = 2 * queries + 2 * keys + 4 * inner
        is_half = weight_bytes < 4
        # Every expert has a copy of what goes in and of what comes out.
        copies = 3 * self.chosen_experts * self.width
        if not lora_rank:
            return weight_bytes * ((8 if is_half else 6) * self.width + shared + copies)
        if self.chosen_experts:  # experts have no adapter
            return weight_bytes * ((6 if is_half else 4) * self.width + shared + copies / 3)
        down = 7 * lora_rank
        if not is_half:
            return weight_bytes * (4 * self.width + shared + down)
        # peft widens what goes into each adapted matrix
        return weight_bytes * (2 * self.width + shared) + 4 * (5 * self.width + queries + inner + down)

    def cached_bytes(self, weight_bytes: float) -> float:
        """Bytes of the keys and values of a token in all layers."""
        return weight_bytes * self.cached

    def forward_flops(self, context: float) -> float:
        """Floating-point operations of a token that sees so many others, without the output layer."""
        return 2.0 * self.active_layers + 4.0 * self.layers * self.queries * context

    @property
    def head_flops(self) -> float:
        """Of the output layer, for a token."""
        return 2.0 * self.width * self.vocabulary


def dense(
    name: str,
    layers: int,
    width: int,
    heads: int,
    key_heads: int,
    head_size: int,
    inner: int,
    vocabulary: int,
    is_tied: bool,
) -> ModelShape:
    """A decoder with gated feed-forward layers and without biases, such as Llama.

    Args:
        inner: width of the feed-forward layer.
        is_tied: whether the output layer is the embedding.
    """
    queries, keys = heads * head_size, key_heads * head_size
    attention, forward = width * (2 * queries + 2 * keys), 3 * width * inner
    rows_and_columns = 2 * (width + queries) + 2 * (width + keys) + 3 * (width + inner)
    embeddings = vocabulary * width * (1 if is_tied else 2)
    parameters = layers * (attention + forward + 2 * width) + width + embeddings
    return ModelShape(
        name=name,
        layers=layers,
        width=width,
        queries=queries,
        cached=2 * layers * keys,
        vocabulary=vocabulary,
        parameters=parameters,
        active=parameters,
        trained=parameters,
        layer_parameters=attention + forward + 2 * width,
        active_layers=layers * (attention + forward),
        attention=layers * attention,
        adapted=layers * (attention + forward),
        adapter_width=layers * rows_and_columns,
    )


_KNOWN: tuple[tuple[str, int, int, int, int, int, int, int, bool], ...] = (
    ("SmolLM2-135M", 30, 576, 9, 3, 64, 1536, 49_152, True),
    ("Qwen2.5-0.5B", 24, 896, 14, 2, 64, 4864, 151_936, True),
    ("Llama-3.2-1B", 16, 2048, 32, 8, 64, 8192, 128_256, True),
    ("Qwen2.5-1.5B", 28, 1536, 12, 2, 128, 8960, 151_936, True),
    ("Qwen2.5-3B", 36, 2048, 16, 2, 128, 11_008, 151_936, True),
    ("Qwen3-4B", 36, 2560, 32, 8, 128, 9728, 151_936, True),
    ("Qwen2.5-7B", 28, 3584, 28, 4, 128, 18_944, 152_064, False),
    ("Llama-3.1-8B", 32, 4096, 32, 8, 128, 14_336, 128_256, False),
    ("Qwen2.5-14B", 48, 5120, 40, 8, 128, 13_824, 152_064, False),
    ("Qwen2.5-32B", 64, 5120, 40, 8, 128, 27_648, 152_064, False),
    ("Llama-3.1-70B", 80, 8192, 64, 8, 128, 28_672, 128_256, False),
)
"""Public configurations that stand for a size."""


def shape_of(text: str) -> ModelShape:
    """The shape of a size such as ``8B`` or ``500M``, or of a model.

    A size stands for the public model next to it, with as many layers as the size needs.

    Raises:
        InputError: it is neither.
    """
    size = _SIZE.match(text.strip())
    if size is None:
        if not Path(text).is_dir():
            raise InputError(
                f"--model-size {text} is neither a size such as 8B nor a folder with a config.json; names go to --model"
            )
        return shape_of_model(text)
    wanted = float(size[1]) * (1e9 if size[2] in "bB" else 1e6)
    if not 1e8 <= wanted <= 1e12:
        raise InputError(f"--model-size {text} is out of range; give a size between 100M and 1000B, or a model")
    known = [(dense(*sizes), sizes) for sizes in _KNOWN]
    near, sizes = min(known, key=lambda pair: abs(math.log(pair[0].parameters / wanted)))
    if abs(near.parameters / wanted - 1) < 0.1:
        return near
    others = near.parameters - near.layers * near.layer_parameters
    layers = max(1, round((wanted - others) / near.layer_parameters))
    return dense(f"{near.name} with {layers} layers", layers, *sizes[2:])


def shape_of_model(name: str) -> ModelShape:
    """Counted in the model itself (:mod:`pivotrl.engine.anatomy`).

    Args:
        name: a model folder, of which config.json suffices, or a Hugging Face id.

    Raises:
        InputError: there is no such model, or it is no decoder that writes text.
    """
    try:
        from pivotrl.engine.anatomy import anatomy_of
    except ImportError as error:
        raise InputError(
            f"counting the parameters of {name} needs torch and transformers: pip install 'pivotrl[hf]', or give "
            "--model-size"
        ) from error
    return ModelShape(name=name, **dataclasses.asdict(anatomy_of(name)))
