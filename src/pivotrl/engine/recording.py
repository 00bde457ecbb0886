"""A decode step is recorded as a CUDA graph and replayed: one launch in place of a thousand."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import torch
from torch import Tensor

from pivotrl.engine.static_decoding import StaticPass

Step = Callable[[], Tensor]
Capture = Callable[[Step], Step]
"""Records a step that reads and writes the same buffers each time; the result repeats it.

Raises:
    RuntimeError: the step does what cannot be recorded.
"""

_WARM = 3
"""Steps of a layout before it is recorded. They warm libraries up, and a layout that soon changes costs no record."""

_TOLERANCE = 0.02
"""Largest difference of a logit between a replay and the step itself, relative to the largest logit. Kernels may be
chosen anew when recorded; a wrong buffer is off by far more."""

_logger = logging.getLogger(__name__)


def cuda_graph(step: Step) -> Step:
    """See :data:`Capture`. The tensor that a replay returns is overwritten by the next one."""
    graph = torch.cuda.CUDAGraph()
    # Only this thread's calls can spoil the record; another may be moving data.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        output = step()

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay


class RecordedStep:
    """Calls a step, and replays it once its layout has stood for a while.

    The first replay is compared with the step itself. If it differs, or nothing could be recorded, the step is called
    as it is from then on, and the reason is logged.

    Attributes:
        num_replays: calls answered by a replay.
    """

    def __init__(self, step: Step, state: StaticPass, capture: Capture) -> None:
        self._step, self._state = step, state
        self._capture: Capture | None = capture
        self._replay: Step | None = None
        self._layout, self._num_calls, self.num_replays = -1, 0, 0

    def __call__(self) -> Tensor:
        if self._layout != self._state.layout:
            self._layout, self._num_calls, self._replay = self._state.layout, 0, None
        if self._replay is not None:
            self.num_replays += 1
            return self._replay()
        output = self._step()
        self._num_calls += 1
        if self._capture is not None and self._num_calls == _WARM:
            self._record(self._capture, output)
        return output

    def _record(self, capture: Capture, expected: Tensor) -> None:
        try:
            replay = capture(self._step)
            found = replay()
            reason = None if _agree(found, expected) else "a replay differs from the step it records"
        except RuntimeError as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if reason is None:
            self._replay = replay
        else:
            self._capture = None
            _warn(reason)


def _agree(found: Tensor, expected: Tensor) -> bool:
    largest = float(expected.abs().nan_to_num(0.0, 0.0, 0.0).max())
    return torch.allclose(found, expected, rtol=0.0, atol=_TOLERANCE * largest, equal_nan=True)


@functools.cache
def _warn(reason: str) -> None:
    """Each reason once, not at every batch."""
    _logger.warning("decoding goes on without CUDA graphs, launch by launch: %s", reason)
