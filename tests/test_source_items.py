"""A source is read once where it fits into memory, and again where it does not; the items are the same.

Run alone: python -m pytest tests/test_source_items.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pivotrl.reading.source_items import SourceItems
from pivotrl.records import Message, Refusal, Trajectory


class Log:
    """A reader that counts how often it is asked."""

    def __init__(self, num_rows: int) -> None:
        self.num_rows, self.num_reads = num_rows, 0

    def __call__(self, path: Path) -> Iterator[Trajectory | Refusal]:
        self.num_reads += 1
        for number in range(self.num_rows):
            message = Message(role="assistant", content="x" * 100)
            yield Trajectory(id=str(number), task_id="t", messages=(message,))
        yield Refusal(place="end", reason="is cut off")


def passes(items: SourceItems) -> list[list[str]]:
    return [[getattr(item, "id", "refused") for item in items] for _ in range(3)]


def test_a_small_source_is_read_once_and_a_large_one_each_time() -> None:
    for max_bytes, num_reads in ((10**6, 1), (5_000, 3)):
        log = Log(10)
        found = passes(SourceItems(log, Path("log"), max_bytes))
        assert found == [[*map(str, range(10)), "refused"]] * 3
        assert log.num_reads == num_reads


def test_a_pass_that_was_left_early_is_not_taken_for_the_whole() -> None:
    log = Log(3)
    items = SourceItems(log, Path("log"))
    next(iter(items))
    assert len(list(items)) == 4 and log.num_reads == 2
