"""Matrix products in fp32 on processors for which PyTorch's own choice is slow.

PyTorch gives them to MKL, which takes AVX2 on processors that are not Intel's. oneDNN, which comes with PyTorch as
well, uses AVX-512 wherever it is: about twice as fast (docs/performance.md). Nothing else changes; sums are in fp32
as before, in another order.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


@functools.cache
def are_faster() -> bool:
    """AVX-512 without Intel's name, and a PyTorch that has the operator. The same machine always says the same."""
    try:
        intel = "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    known = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return known and not intel and torch.backends.cpu.get_cpu_capability() == "AVX512"


class Linear(torch.nn.Linear):
    """A linear layer whose products go through :func:`linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def use_faster(model: torch.nn.Module) -> None:
    """Every plain linear layer of a model becomes a :class:`Linear`; weights and names stay."""
    for module in model.modules():
        if type(module) is torch.nn.Linear:
            module.__class__ = Linear


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``torch.nn.functional.linear``; through oneDNN for fp32 on the CPU."""
    if x.device.type != "cpu" or not x.dtype == weight.dtype == torch.float32 or not x.numel():
        return torch.nn.functional.linear(x, weight, bias)
    output: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return output


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        _, asks_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if asks_weight else None, weight)
        output: Tensor = _product(x.flatten(0, -2), weight, bias).unflatten(0, x.shape[:-1])
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        grad = grads[0]
        asks_x, asks_weight, asks_bias = ctx.needs_input_grad
        rows = grad.flatten(0, -2)
        d_x = _product(rows, weight.t()).unflatten(0, grad.shape[:-1]) if asks_x else None
        d_weight = _product(rows.t(), x.flatten(0, -2).t()) if asks_weight else None
        return d_x, d_weight, rows.sum(dim=0) if asks_bias else None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias`` of matrices in any layout."""
    output: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return output
