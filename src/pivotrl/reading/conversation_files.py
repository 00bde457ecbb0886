"""Files of conversations: a row or a list for each, or the whole file one list of messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.fields import as_object
from pivotrl.reading.sources import Entry, convert_entries, entries, head, refusal
from pivotrl.records import Refusal, Trajectory

Row = dict[str, Any]
Convert = Callable[[Row, str], Trajectory | list[Trajectory]]


def read_rows(path: Path, is_message: Callable[[Any], bool], convert: Convert) -> Iterator[Trajectory | Refusal]:
    """One trajectory per row; a list, and a file that is one list of messages, count as ``{"messages": [...]}``.

    Args:
        convert: (row, fallback name) -> trajectory, or several; raises ValueError with a one-line reason.

    Raises:
        InputError: the file cannot be read.
    """
    if are_messages(head(path), is_message):
        return whole_file(path, convert)

    def convert_entry(value: Any, entry: Entry) -> Trajectory | list[Trajectory]:
        row = {"messages": value} if isinstance(value, list) else as_object(value)
        return convert(row, f"{path.stem}-{entry.number}")

    return convert_entries(path, convert_entry)


def are_rows(head: Sequence[Any], is_row: Callable[[Any], bool]) -> bool:
    """Whether at least half of the objects with any key are such rows, and one is: a file most of whose rows a reader
    does not understand is not its file."""
    known = sum(map(is_row, head))
    return known > 0 and 2 * known >= sum(1 for value in head if isinstance(value, dict) and value)


def are_messages(head: Sequence[Any], is_message: Callable[[Any], bool]) -> bool:
    """Whether the values of a file are messages, except for a few that may be damaged."""
    return 2 * sum(map(is_message, head)) > len(head)


def whole_file(path: Path, convert: Convert) -> Iterator[Trajectory | Refusal]:
    """One trajectory of a file whose values are messages; a refusal if one of them is damaged."""
    items = []
    for entry in entries(path):
        try:
            items.append(entry.load())
        except ValueError as error:
            yield Refusal(place=str(path), reason=f"is one conversation, and {entry.place} {error}")
            return
    try:
        made = convert({"messages": items}, path.stem)
        yield from (made,) if isinstance(made, Trajectory) else made
    except ValueError as error:
        yield refusal(str(path), error)
