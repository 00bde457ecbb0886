"""Items of Codex's rollout files in the form of the Responses API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pivotrl.reading.chat_messages import arguments_text
from pivotrl.reading.fields import as_object, member, optional

_SUMMARIES = {"compaction_summary", "context_compaction"}
"""Other names of an encrypted summary."""


def is_turn(item: Any) -> bool:
    """Whether the item is a part of an answer of the model."""
    kind = str(item.get("type")) if isinstance(item, dict) else ""
    return kind == "reasoning" or kind.endswith("_call") or (kind == "message" and item.get("role") == "assistant")


def plain_item(item: Any) -> Any:
    """The item in the form of the Responses API: names with their namespace, tool search as a call like others."""
    row = as_object(item)
    kind = optional(row, "type", str)
    if kind in _SUMMARIES:
        return {**row, "type": "compaction"}
    if kind == "agent_message":
        return {**row, "type": "message", "role": "user"}
    if kind == "tool_search_call":
        arguments = arguments_text(row.get("arguments"))
        return {"type": "function_call", "name": "tool_search", "arguments": arguments, "call_id": row.get("call_id")}
    if kind == "tool_search_output":
        found = arguments_text(row.get("tools"))
        return {"type": "function_call_output", "call_id": row.get("call_id"), "output": found}
    if row.get("namespace") and "name" in row:
        return {**row, "name": _qualified(row["namespace"], row["name"])}
    return row


def _qualified(namespace: Any, name: Any) -> str:
    return str(name) if namespace == "functions" else f"{namespace}.{name}"


def flat_tools(tools: Sequence[Any]) -> list[Any]:
    """Tools without their namespaces, which become part of their names."""
    flat: list[Any] = []
    for tool in map(as_object, tools):
        if tool.get("type") == "namespace":
            inner = [as_object(item) for item in member(tool, "tools", list)]
            flat += [{**item, "name": _qualified(tool.get("name"), item.get("name"))} for item in inner]
        else:
            flat.append(tool)
    return flat


def is_summarised(item: Any) -> bool:
    """A thought of which only a summary can be read."""
    return bool(
        item.get("type") == "reasoning"
        and item.get("encrypted_content")
        and item.get("summary")
        and not item.get("content")
    )


def says(item: Any, text: str | None) -> bool:
    """Newer models are sent their instructions as the first message."""
    content = item.get("content") if isinstance(item, dict) else None
    return (
        isinstance(content, list)
        and len(content) == 1
        and isinstance(content[0], dict)
        and content[0].get("text") == text
    )
