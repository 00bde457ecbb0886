"""Messages of LangChain and LangGraph: ``type`` instead of ``role``, ``args`` instead of ``arguments``.

A row is a state with ``messages`` (also inside ``values``, ``state`` or ``output``), or the list itself; a file that is
one list is a conversation. Messages may be dumped as they are, as ``{type, data}``, or as constructors (``lc``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import chat_message, declared_tools, task_hash
from pivotrl.reading.conversation_files import are_messages, read_rows
from pivotrl.reading.fields import as_object, each, optional
from pivotrl.reading.row_facts import outcome, run_name, task_name
from pivotrl.reading.turn_marks import is_context
from pivotrl.records import Loss, Message, Refusal, Trajectory

_ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("ai", "assistant"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function"), "tool"),
}
_SUFFIXES = ("messagechunk", "message")
_KEYS = {"messages", "tools", "id", "task_id", "instance_id", "reward", "score"}
_CALLS = ("tool_use", "tool_call")
_MAX_DEPTH = 3


def recognises(head: Sequence[Any]) -> bool:
    """States or lists with such messages, or a file of them."""
    if are_messages(head, _is_message):
        return True
    return any(_found(value, _MAX_DEPTH) is not None for value in head)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory per state, or one for the whole file if its values are messages.

    Calls that LangChain could not parse (``invalid_tool_calls``) exclude their turn.

    Raises:
        InputError: the file cannot be read.
    """
    return read_rows(path, _is_message, _trajectory)


def _trajectory(row: dict[str, Any], name: str) -> Trajectory:
    items = _found(row, _MAX_DEPTH)
    if items is None:
        raise ValueError("there is no list of messages of type human, ai, system or tool")
    losses: list[Loss] = []
    excluded: dict[int, str] = {}
    messages: list[Message] = []
    for index, item in enumerate(each("messages", items, _plain)):
        found: list[Loss] = []
        try:
            messages.append(chat_message(_as_chat(item), found))
        except ValueError as error:
            raise ValueError(f"messages[{index}]: {error}") from error
        losses += [loss.model_copy(update={"message": index}) for loss in found]
        if messages[-1].role == "assistant" and (reason := _fault(item)):
            excluded[index] = reason
    if not any(message.role == "assistant" for message in messages):
        raise ValueError("there is no assistant message, so there is no turn to learn from")
    foreign = {key: value for key, value in row.items() if key not in _KEYS and not isinstance(value, dict | list)}
    return Trajectory(
        id=run_name(row) or name,
        task_id=task_name(row) or task_hash(messages),
        messages=tuple(messages),
        tools=declared_tools(row.get("tools")),
        reward=outcome(row),
        excluded=excluded,
        metadata={"foreign": foreign} if foreign else {},
        losses=tuple(losses),
    )


def _plain(item: Any) -> dict[str, Any]:
    """The message with its type, without what it was dumped in."""
    row = as_object(item)
    if isinstance(row.get("kwargs"), dict) and isinstance(row.get("id"), list) and row["id"]:
        return {**row["kwargs"], "type": _kind(row["id"][-1])}
    if isinstance(row.get("data"), dict):
        return {**row["data"], "type": _kind(row.get("type"))}
    return {**row, "type": _kind(row.get("type", row.get("role")))}


def _kind(name: Any) -> str:
    """``AIMessageChunk`` is ``ai``."""
    text = name.lower() if isinstance(name, str) else ""
    return next((text.removesuffix(end) for end in _SUFFIXES if text != end and text.endswith(end)), text)


def _as_chat(item: dict[str, Any]) -> dict[str, Any]:
    content = item.get("content")
    if isinstance(content, list):  # the calls stand beside them, too
        parts = ({"type": "text", "text": part} if isinstance(part, str) else part for part in content)
        content = [part for part in parts if not (isinstance(part, dict) and part.get("type") in _CALLS)]
    calls = optional(item, "tool_calls", list) or (optional(item, "additional_kwargs", dict) or {}).get("tool_calls")
    kept = {key: value for key, value in item.items() if key not in ("type", "content", "tool_calls", "role")}
    row = {**kept, "role": _ROLES.get(item["type"], item["type"]), "content": content}
    return {**row, "tool_calls": calls} if calls else row


def _fault(item: dict[str, Any]) -> str | None:
    if item.get("invalid_tool_calls"):
        return "unparsable_action"
    response = item.get("response_metadata")
    ending = response.get("finish_reason") or response.get("stop_reason") if isinstance(response, dict) else None
    if ending in ("length", "max_tokens", "MAX_TOKENS"):
        return "truncated"
    return "context_only" if is_context(item) else None


def _found(value: Any, depth: int) -> list[Any] | None:
    """The longest list of such messages in a value, in which the assistant speaks."""
    if isinstance(value, list):
        if value and all(map(_is_message, value)) and any(_plain(item)["type"] == "ai" for item in value):
            return value
        return None
    if not isinstance(value, dict) or not depth:
        return None
    lists = [found for inner in value.values() if (found := _found(inner, depth - 1)) is not None]
    return max(lists, key=len, default=None)


def _is_message(item: Any) -> bool:
    if not isinstance(item, dict):
        return False
    row = _plain(item)
    is_marked = "role" not in item or "additional_kwargs" in item
    return is_marked and row["type"] in ("human", "ai", "system", "tool", "function") and "content" in row
