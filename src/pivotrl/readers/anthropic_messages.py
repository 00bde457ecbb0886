"""Requests of Anthropic's Messages API and of Bedrock's Converse, and conversations in their blocks (Cline and Roo).

A row is ``{messages, system?, tools?}``; if it holds the response too (``content`` and ``stop_reason``), that is its
last turn. A list of messages, or a file that is one, is a conversation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.conversation import conversation
from pivotrl.reading.conversation_files import are_messages, read_rows
from pivotrl.reading.fields import as_object, json_text, optional
from pivotrl.reading.formats.anthropic_messages import anthropic_messages, anthropic_tools, has_block, system_text
from pivotrl.reading.turn_marks import marked_turns
from pivotrl.records import Refusal, Trajectory
from pivotrl.records.strict_json import kind_of

_LISTS = ("messages", "conversation", "trajectory", "history", "apiConversationHistory", "api_conversation_history")
_KEYS = {*_LISTS, "system", "tools", "id", "task_id", "instance_id", "reward", "score", "content", "toolConfig"}
_NOT_HERE = {"response", "request", "responses_create_params", "schema_version", "trajectory_format", "events", "uuid"}


def recognises(head: Sequence[Any]) -> bool:
    """Rows or lists of messages with calls or results in blocks, or a file of such messages."""
    if are_messages(head, _is_message):
        return any(map(has_block, head))
    return any(_is_row(value) for value in head)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory per row, or one for the whole file if its values are messages.

    All turns are candidates: they come from the same agent.

    Raises:
        InputError: the file cannot be read.
    """
    return read_rows(path, _is_message, _trajectory)


def _trajectory(row: dict[str, Any], name: str) -> Trajectory:
    items = _items(row)
    if isinstance(row.get("content"), list) and row.get("role") == "assistant":
        items = [*items, {"role": "assistant", "content": row["content"]}]
    barred = marked_turns(items, row)
    if row.get("stop_reason") == "max_tokens":
        answers = [index for index, item in enumerate(items) if as_object(item).get("role") == "assistant"]
        barred = dict.fromkeys(answers[-1:], "truncated") | barred
    return conversation(
        row,
        name,
        items,
        anthropic_messages,
        barred=barred,
        foreign={key: value for key, value in row.items() if key not in _KEYS},
        tools=anthropic_tools(row.get("tools") or row.get("toolConfig")),
        system=system_text(row.get("system")),
    )


def _items(row: dict[str, Any]) -> list[Any]:
    value = next((row[key] for key in _LISTS if row.get(key) is not None), None)
    if isinstance(value, str):
        value = json_text("messages", value)
    if not isinstance(value, list):
        raise ValueError(f"messages is {kind_of(value)}, not array")
    return value


def _is_row(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_is_message, value)) and any(map(has_block, value))
    if not isinstance(value, dict) or _NOT_HERE & value.keys():
        return False
    try:
        items = _items(value)
        optional(value, "stop_reason", str)
    except ValueError:
        return False
    return bool(items) and all(map(_is_message, items)) and any(map(has_block, items))


def _is_message(item: Any) -> bool:
    if not isinstance(item, dict) or item.get("role") not in ("user", "assistant", "system") or "tool_calls" in item:
        return False
    return isinstance(item.get("content"), str | list)
