"""Record a decode step as a CUDA graph and replay it: one launch instead of a thousand."""

from __future__ import annotations

import functools
import logging
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pivotrl.engine.static_decoding import StaticPass
from pivotrl.protocols.errors import first_line

Step = Callable[[], Tensor]
Capture = Callable[[Step], Step]
"""Records a step that reads and writes the same buffers each time; the result repeats it.

Raises:
    RuntimeError: the step cannot be recorded.
"""

_WARM = 3
"""Steps of a layout before it is recorded. They warm libraries up, and a layout that soon changes costs no record."""

_TOLERANCE = 0.02
"""Largest difference of a logit between a replay and the step itself, relative to the largest logit. Kernels may be
chosen anew when recorded; a wrong buffer is off by far more."""

_refused: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()
"""Models of which a step could not be recorded. No other is tried: a record that fails may cost memory for good."""

_logger = logging.getLogger(__name__)


def cuda_graph(step: Step) -> Step:
    """See :data:`Capture`. The tensor that a replay returns is overwritten by the next one."""
    graph = torch.cuda.CUDAGraph()
    # The outer context takes us back to our stream also when the inner one raises while it ends a spoilt record. Only
    # this thread's calls can spoil it; another may be moving data.
    with (
        torch.cuda.stream(torch.cuda.current_stream()),
        torch.cuda.graph(graph, capture_error_mode="thread_local"),
    ):
        output = step()

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay


class HostWatch(TorchDispatchMode):
    """Raise an error for anything that a graph cannot hold: values that the host reads or sends."""

    _READS = (
        *("_local_scalar_dense", "nonzero", "equal", "is_nonzero"),
        *("masked_select", "_unique2", "unique_dim", "repeat_interleave"),
    )
    """Operators whose result the host waits for, or whose shape depends on values."""
    _MADE = "lift_fresh"
    """A tensor made of Python's numbers."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        by_mask = name.startswith("index") and any(tensor.dtype == torch.bool for tensor in tensors[1:])
        if name in self._READS or name == self._MADE or by_mask:
            raise RuntimeError(f"{name} on the host is not permitted in a recorded step")
        output = func(*args, **(kwargs or {}))
        if isinstance(output, Tensor) and any(tensor.device != output.device and tensor.dim() for tensor in tensors):
            raise RuntimeError(f"{name} moves data between devices, which is not permitted in a recorded step")
        return output


class RecordedStep:
    """Calls a step, and replays it once its layout has stood for a while.

    The step before is watched for what cannot be recorded, and the first replay is compared with it. If anything is
    wrong, steps of this model are called as they are from then on, and the reason is logged.

    Args:
        model: whose step it is.

    Attributes:
        num_replays: calls answered by a replay.
    """

    def __init__(self, step: Step, state: StaticPass, capture: Capture, model: torch.nn.Module) -> None:
        self._step, self._state, self._capture, self._model = step, state, capture, model
        self._replay: Step | None = None
        self._layout, self._num_calls, self.num_replays = -1, 0, 0

    def __call__(self) -> Tensor:
        if self._layout != self._state.layout:
            self._layout, self._num_calls, self._replay = self._state.layout, 0, None
        if self._replay is not None:
            self.num_replays += 1
            return self._replay()
        self._num_calls += 1
        if self._num_calls == _WARM and self._model not in _refused:
            return self._record()
        return self._step()

    def _record(self) -> Tensor:
        """The step's result; from the next call on it is replayed, if that can be."""
        expected: Tensor | None = None
        try:
            with HostWatch():  # type: ignore[no-untyped-call]
                expected = self._step()
            replay = self._capture(self._step)
            reason = None if _agree(replay(), expected) else "a replay differs from the step it records"
        except RuntimeError as error:
            reason = _first_reason(error)
        if reason is None:
            self._replay = replay
        else:
            _refused.add(self._model)
            _warn(reason)
        return self._step() if expected is None else expected


def _first_reason(error: BaseException) -> str:
    """What went wrong first: a record that is spoilt ends with an error of its own."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    return first_line(error)


def _agree(found: Tensor, expected: Tensor) -> bool:
    largest = float(expected.abs().nan_to_num(0.0, 0.0, 0.0).max())
    return torch.allclose(found, expected, rtol=0.0, atol=_TOLERANCE * largest, equal_nan=True)


@functools.cache
def _warn(reason: str) -> None:
    """Log each reason once, not at every batch."""
    _logger.warning("decoding continues without CUDA graphs: %s", reason)
