"""LangChain's messages as chat messages: ``type`` instead of ``role``, ``args`` instead of ``arguments``."""

from __future__ import annotations

from typing import Any

from pivotrl.reading.fields import as_object, optional
from pivotrl.reading.turn_marks import is_context

_ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("ai", "assistant"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function"), "tool"),
}
_SUFFIXES = ("messagechunk", "message")
_CALLS = ("tool_use", "tool_call")


def plain_message(item: Any) -> dict[str, Any]:
    """The message with its type, without what it was dumped in: as it is, ``{type, data}``, or a constructor (``lc``).

    Raises:
        ValueError: it is not an object.
    """
    row = as_object(item)
    if isinstance(row.get("kwargs"), dict) and isinstance(row.get("id"), list) and row["id"]:
        return {**row["kwargs"], "type": _kind(row["id"][-1])}
    if isinstance(row.get("data"), dict):
        return {**row["data"], "type": _kind(row.get("type"))}
    return {**row, "type": _kind(row.get("type", row.get("role")))}


def as_chat(item: dict[str, Any]) -> dict[str, Any]:
    """A plain message as OpenAI's chat has it."""
    content = item.get("content")
    if isinstance(content, list):  # the calls stand beside them, too
        parts = ({"type": "text", "text": part} if isinstance(part, str) else part for part in content)
        content = [part for part in parts if not (isinstance(part, dict) and part.get("type") in _CALLS)]
    calls = optional(item, "tool_calls", list) or (optional(item, "additional_kwargs", dict) or {}).get("tool_calls")
    kept = {key: value for key, value in item.items() if key not in ("type", "content", "tool_calls", "role")}
    row = {**kept, "role": _ROLES.get(item["type"], item["type"]), "content": content}
    return {**row, "tool_calls": calls} if calls else row


def fault_of(item: dict[str, Any]) -> str | None:
    """Why a plain message must not become a candidate."""
    if item.get("invalid_tool_calls"):
        return "unparsable_action"
    response = item.get("response_metadata")
    ending = response.get("finish_reason") or response.get("stop_reason") if isinstance(response, dict) else None
    if ending in ("length", "max_tokens", "MAX_TOKENS"):
        return "truncated"
    return "context_only" if is_context(item) else None


def message_list(value: Any, depth: int) -> list[Any] | None:
    """The longest list of such messages in a value, in which the assistant speaks."""
    if isinstance(value, list):
        if value and all(map(is_message, value)) and any(plain_message(item)["type"] == "ai" for item in value):
            return value
        return None
    if not isinstance(value, dict) or not depth or "run_type" in value:  # a run of LangSmith
        return None
    lists = [found for inner in value.values() if (found := message_list(inner, depth - 1)) is not None]
    return max(lists, key=len, default=None)


def is_message(item: Any) -> bool:
    """Whether it is a message with LangChain's type, in any of its dumps."""
    if not isinstance(item, dict):
        return False
    row = plain_message(item)
    is_marked = "role" not in item or "additional_kwargs" in item
    return is_marked and row["type"] in ("human", "ai", "system", "tool", "function") and "content" in row


def _kind(name: Any) -> str:
    """``AIMessageChunk`` is ``ai``."""
    text = name.lower() if isinstance(name, str) else ""
    return next((text.removesuffix(end) for end in _SUFFIXES if text != end and text.endswith(end)), text)
