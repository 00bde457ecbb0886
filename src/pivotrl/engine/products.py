"""The matrix products of sampling on the CPU: PyTorch's own, or oneDNN's with weights packed in its layout.

PyTorch gives fp32 products to MKL, which is half as fast as oneDNN on some processors not made by Intel. oneDNN keeps
memory for every shape it has seen, so rows are padded to a few sizes. Packed weights are a copy: they live for one
call of the sampler, and training never sees them.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from pivotrl.engine.memory import budget
from pivotrl.protocols import InputError

Products = Literal["auto", "plain", "packed", "bfloat16"]

_MUCH_FASTER = 1.4
"""``auto`` takes packed weights from this ratio on. We measured ratios of 1.15 and 2, so noise does not change it."""

_SIZES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Rows of a product; more rows are cut into blocks of the largest size."""

_REPEATS = 5

_logger = logging.getLogger(__name__)


def resolve_products(products: Products, model: Any) -> Products:
    """What ``auto`` means for this model on this machine; the other choices stay as they are.

    Raises:
        InputError: packed weights are not available here.
    """
    if products == "plain":
        return products
    fitting = model.device.type == "cpu" and model.dtype == torch.float32
    if not fitting or not torch.backends.mkldnn.is_available():
        if products != "auto":
            raise InputError(f"products={products!r} needs float32 weights on a CPU that oneDNN serves; give 'auto'")
        return "plain"
    packed, bfloat16 = speeds()
    if products == "auto":
        size = sum(layer.weight.nbytes for layer in _layers(model))
        fast = packed >= _MUCH_FASTER and size <= budget(model) // 2  # the other half is for trunks
        products = "packed" if fast else "plain"
    found = "products of sampling: %s (against PyTorch's, packed is %.2f times as fast, bfloat16 %.2f times)"
    slow = products == "bfloat16" and bfloat16 < 1.0
    _logger.log(logging.WARNING if slow else logging.INFO, found, products, packed, bfloat16)
    return products


@functools.cache
@torch.no_grad()
def speeds() -> tuple[float, float]:
    """How many times as fast as PyTorch's fp32 product a packed fp32 and a packed bf16 one are, at 512 rows."""
    with torch.random.fork_rng(devices=[]):
        layer = torch.nn.Linear(576, 1536)
    rows = torch.ones(512, 576)
    packed, half = (_Product(layer, dtype) for dtype in (torch.float32, torch.bfloat16))
    own = _seconds(lambda: layer(rows))
    return own / _seconds(lambda: packed(rows)), own / _seconds(lambda: half(rows))


def _seconds(compute: Callable[[], Tensor]) -> float:
    """The fastest of a few runs, in processor time, which other work on the machine disturbs least."""
    compute()
    taken = []
    for _ in range(_REPEATS):
        begin = time.process_time()
        compute()
        taken.append(time.process_time() - begin)
    return min(taken)


@contextlib.contextmanager
def computing_by(products: Products, model: Any) -> Iterator[None]:
    """Inside, the linear layers of the model compute in this way; their weights must not change and gradients are not
    allowed. With ``bfloat16`` the output layer stays in fp32, because rounded logits would differ most."""
    if products == "plain":
        yield
        return
    assert products != "auto"
    layers, output = _layers(model), model.get_output_embeddings()
    for layer in layers:
        half = products == "bfloat16" and layer is not output
        layer.forward = _Product(layer, torch.bfloat16 if half else torch.float32)  # type: ignore[assignment]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class has its own


def _layers(model: Any) -> list[torch.nn.Linear]:
    return [
        layer for layer in model.modules() if type(layer) is torch.nn.Linear and layer.weight.dtype == torch.float32
    ]


class _Product:
    """A layer's forward. Its weights are packed when it is first called, so unused layers cost nothing."""

    def __init__(self, layer: torch.nn.Linear, dtype: torch.dtype) -> None:
        self._layer, self._dtype = layer, dtype
        self._packed: Tensor | None = None
        self._bias: Tensor | None = None

    def __call__(self, rows: Tensor) -> Tensor:
        if self._packed is None:
            weight, bias = self._layer.weight.detach(), self._layer.bias
            self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.to(self._dtype), None)
            self._bias = None if bias is None else bias.detach().to(self._dtype)
        flat = rows.reshape(-1, rows.shape[-1])
        blocks = [self._block(block) for block in flat.split(_SIZES[-1])]
        output = blocks[0] if len(blocks) == 1 else torch.cat(blocks)
        return output.to(rows.dtype).view(*rows.shape[:-1], -1)

    def _block(self, rows: Tensor) -> Tensor:
        num_rows = len(rows)
        size = next(size for size in _SIZES if size >= num_rows)
        if size > num_rows:
            rows = torch.nn.functional.pad(rows, (0, 0, 0, size - num_rows))
        output: Tensor = torch.ops.mkldnn._linear_pointwise(
            rows.to(self._dtype), self._packed, self._bias, "none", [], ""
        )
        return output[:num_rows]
