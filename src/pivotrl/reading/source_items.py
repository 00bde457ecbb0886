"""What a reader yields, for an import that goes through it twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pivotrl.plugins.shapes import trajectories
from pivotrl.protocols import Reader
from pivotrl.records import Refusal, Trajectory

_MAX_BYTES = 128_000_000
"""About the most memory that is taken to read a source once instead of twice."""
_BYTES_OF_A_MESSAGE = 1000
"""About what a message takes besides its text."""


class SourceItems:
    """The trajectories and refusals of a source, in order. A source is read again for each pass, unless the first pass
    went through all of it and little enough came of it to be kept.

    Raises:
        InputError: from the iteration, as :func:`pivotrl.plugins.shapes.trajectories`.
    """

    def __init__(self, reader: Reader, path: Path, max_bytes: int = _MAX_BYTES) -> None:
        self.path = path
        self._reader = reader
        self._max_bytes = max_bytes
        self._kept: list[Trajectory | Refusal] | None = None

    def __iter__(self) -> Iterator[Trajectory | Refusal]:
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Trajectory | Refusal] = []
        num_bytes = 0
        for item in trajectories(self._reader, self.path):
            if num_bytes <= self._max_bytes:
                kept.append(item)
                num_bytes += _num_bytes(item)
            elif kept:
                kept.clear()
            yield item
        if num_bytes <= self._max_bytes:
            self._kept = kept


def _num_bytes(item: Trajectory | Refusal) -> int:
    if isinstance(item, Refusal):
        return _BYTES_OF_A_MESSAGE
    texts = sum(len(m.content or "") + sum(len(c.arguments) for c in m.tool_calls) for m in item.messages)
    return texts + _BYTES_OF_A_MESSAGE * (1 + len(item.messages))
