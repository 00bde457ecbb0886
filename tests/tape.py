"""What a CUDA graph does, on the CPU: a step's operators are written down once and run again on the same tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from pivotrl.engine.cuda_graphs import HostWatch


class _Writer(HostWatch):
    """Refuses what a capture refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = super().__torch_dispatch__(func, types, args, kwargs)
        self.lines.append((func, args, kwargs or {}, output))
        return output


def tape(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """A replay runs no Python of the step: decisions stay as they were, addresses too.

    Raises:
        RuntimeError: the step reads a value on the host.
    """
    with _Writer() as writer:
        output = step()

    def replay() -> Tensor:
        for func, args, kwargs, old in writer.lines:
            for before, after in zip(tree_leaves(old), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(before, Tensor) and before is not after:
                    before.copy_(after)
        return output

    return replay
