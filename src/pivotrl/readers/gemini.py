"""Contents of Google's Gemini API: requests ``{contents, systemInstruction?, tools?}``, or lists of contents.

A file that is one list is a conversation, as Gemini CLI and Qwen Code keep it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import declared_tools
from pivotrl.reading.conversation import conversation
from pivotrl.reading.conversation_files import are_messages, read_rows
from pivotrl.reading.fields import json_text
from pivotrl.reading.formats.gemini_contents import gemini_messages, instruction_text, is_content
from pivotrl.reading.turn_marks import marked_turns
from pivotrl.records import Refusal, Trajectory
from pivotrl.records.strict_json import kind_of

_LISTS = ("contents", "messages", "history")
_KEYS = {*_LISTS, "systemInstruction", "system_instruction", "tools", "id", "task_id", "instance_id", "reward", "score"}


def recognises(head: Sequence[Any]) -> bool:
    """Requests or lists of contents, or a file of them."""
    return are_messages(head, _is_turn) or any(map(_is_row, head))


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory per row, or one for the whole file if its values are contents.

    Raises:
        InputError: the file cannot be read.
    """
    return read_rows(path, _is_turn, _trajectory)


def _trajectory(row: dict[str, Any], name: str) -> Trajectory:
    items = _items(row)
    return conversation(
        row,
        name,
        items,
        gemini_messages,
        barred=marked_turns(items, row),
        foreign={key: value for key, value in row.items() if key not in _KEYS},
        tools=declared_tools(row.get("tools")),
        system=instruction_text(row.get("systemInstruction") or row.get("system_instruction")),
        label="contents",
    )


def _items(row: dict[str, Any]) -> list[Any]:
    value = next((row[key] for key in _LISTS if row.get(key) is not None), None)
    if isinstance(value, str):
        value = json_text("contents", value)
    if not isinstance(value, list):
        raise ValueError(f"contents is {kind_of(value)}, not array")
    return value


def _is_turn(item: Any) -> bool:
    return is_content(item) and item.get("role") in ("user", "model", "function")


def _is_row(value: Any) -> bool:
    items = value
    if isinstance(value, dict):
        items = next((value[key] for key in _LISTS if isinstance(value.get(key), list)), None)
    is_list = isinstance(items, list) and bool(items) and all(map(is_content, items))
    return is_list and any(item.get("role") == "model" for item in items or ())
