"""Single calls of xlam-function-calling-60k and APIGen: rows of ``query``, ``answers`` (calls) and ``tools``.

Parameter types are Python's; they become JSON schema types.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import declared_tools, task_hash, tool_call
from pivotrl.reading.fields import as_object, each, identifier, json_text, member
from pivotrl.reading.row_facts import outcome, task_name
from pivotrl.reading.sources import Entry, convert_entries
from pivotrl.records import Message, Refusal, Trajectory
from pivotrl.records.strict_json import kind_of

_KEYS = {"query", "answers", "tools", "id", "reward", "score", "task_id"}


def recognises(head: Sequence[Any]) -> bool:
    """Rows with these keys."""
    return any(isinstance(row, dict) and {"query", "answers", "tools"} <= row.keys() for row in head)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory per row: the query, and one turn with all the calls.

    Raises:
        InputError: the file cannot be read.
    """

    def convert(value: Any, entry: Entry) -> Trajectory:
        row = as_object(value)
        calls = each("answers", _list(row, "answers"), tool_call)
        if not calls:
            raise ValueError("answers is empty, so there is no turn to learn from")
        messages = (
            Message(role="user", content=member(row, "query", str)),
            Message(role="assistant", tool_calls=tuple(calls)),
        )
        foreign = {key: value for key, value in row.items() if key not in _KEYS}
        return Trajectory(
            id=identifier(row, "id") or f"{path.stem}-{entry.number}",
            task_id=task_name(row) or task_hash(messages),
            messages=messages,
            tools=declared_tools(_list(row, "tools")),
            reward=outcome(row),
            metadata={"foreign": foreign} if foreign else {},
        )

    return convert_entries(path, convert)


def _list(row: dict[str, Any], name: str) -> list[Any]:
    value = row.get(name)
    if isinstance(value, str):
        value = json_text(name, value)
    if not isinstance(value, list):
        raise ValueError(f"{name} is {kind_of(value)}, not array")
    return [json_text(name, item) if isinstance(item, str) else item for item in value]
