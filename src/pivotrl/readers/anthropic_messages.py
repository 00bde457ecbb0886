"""Requests of Anthropic's Messages API, and conversations in its blocks (Cline and Roo keep such lists).

A row is ``{messages, system?, tools?}``; if it holds the response too (``content`` and ``stop_reason``), that is its
last turn. A list of messages, or a file that is one, is a conversation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import task_hash, text_of
from pivotrl.reading.conversation_files import are_messages, read_rows
from pivotrl.reading.fields import json_text, optional
from pivotrl.reading.formats.anthropic_messages import anthropic_messages, anthropic_tools
from pivotrl.reading.row_facts import outcome, run_name, task_name
from pivotrl.reading.turn_marks import marked_turns
from pivotrl.records import Loss, Message, Refusal, Trajectory
from pivotrl.strict_json import kind_of

_BLOCKS = ("tool_use", "tool_result", "server_tool_use", "redacted_thinking")
_LISTS = ("messages", "conversation", "trajectory", "history", "apiConversationHistory", "api_conversation_history")
_KEYS = {*_LISTS, "system", "tools", "id", "task_id", "instance_id", "reward", "score", "content"}
_NOT_HERE = {"response", "request", "responses_create_params", "schema_version", "trajectory_format", "events", "uuid"}


def recognises(head: Sequence[Any]) -> bool:
    """Rows or lists of messages with calls or results in blocks, or a file of such messages."""
    if are_messages(head, _is_message):
        return any(map(_has_block, head))
    return any(_is_row(value) for value in head)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory per row, or one for the whole file if its values are messages.

    All turns are candidates: they come from the same agent.

    Raises:
        InputError: the file cannot be read.
    """
    return read_rows(path, _is_message, _trajectory)


def _trajectory(row: dict[str, Any], name: str) -> Trajectory:
    losses: list[Loss] = []
    excluded: dict[int, str] = {}
    system = text_of(row.get("system"))
    messages = [Message(role="system", content=system)] if system else []
    items = _items(row)
    if isinstance(row.get("content"), list) and row.get("role") == "assistant":
        items = [*items, {"role": "assistant", "content": row["content"]}]
    marked = marked_turns(items, row)
    for index, item in enumerate(items):
        lost: list[Loss] = []
        try:
            made = anthropic_messages(item, lost)
        except ValueError as error:
            raise ValueError(f"messages[{index}]: {error}") from error
        losses += [loss.model_copy(update={"message": len(messages) + (loss.message or 0)}) for loss in lost]
        if made[-1].role == "assistant" and index in marked:
            excluded[len(messages) + len(made) - 1] = marked[index]
        messages += made
    turns = [i for i, message in enumerate(messages) if message.role == "assistant"]
    if not turns:
        raise ValueError("there is no assistant message, so there is no turn to learn from")
    if row.get("stop_reason") == "max_tokens":
        excluded.setdefault(turns[-1], "truncated")
    foreign = {key: value for key, value in row.items() if key not in _KEYS}
    return Trajectory(
        id=run_name(row) or name,
        task_id=task_name(row) or task_hash(messages),
        messages=tuple(messages),
        tools=anthropic_tools(row.get("tools")),
        reward=outcome(row),
        excluded=excluded,
        metadata={"foreign": foreign} if foreign else {},
        losses=tuple(losses),
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
        return bool(value) and all(map(_is_message, value)) and any(map(_has_block, value))
    if not isinstance(value, dict) or _NOT_HERE & value.keys():
        return False
    try:
        items = _items(value)
        optional(value, "stop_reason", str)
    except ValueError:
        return False
    return bool(items) and all(map(_is_message, items)) and any(map(_has_block, items))


def _is_message(item: Any) -> bool:
    if not isinstance(item, dict) or item.get("role") not in ("user", "assistant", "system") or "tool_calls" in item:
        return False
    return isinstance(item.get("content"), str | list)


def _has_block(item: Any) -> bool:
    content = item.get("content") if isinstance(item, dict) else None
    return isinstance(content, list) and any(isinstance(b, dict) and b.get("type") in _BLOCKS for b in content)
