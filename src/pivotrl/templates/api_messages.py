"""A turn's context as messages of the OpenAI chat API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pivotrl.records import Message
from pivotrl.templates.call_results import answered_calls


def api_messages(context: Sequence[Message]) -> list[dict[str, Any]]:
    """A context as messages of a chat API, without thoughts. Calls and results that the log left without an id get one
    by their position, because servers refuse messages without."""
    answers, rows = answered_calls(context), list[dict[str, Any]]()
    for index, message in enumerate(context):
        row: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            row["tool_calls"] = [
                {
                    "id": _call_id(context, index, number),
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for number, call in enumerate(message.tool_calls)
            ]
        elif message.content is None:
            row["content"] = ""
        if message.role == "tool":
            known = _call_id(context, *answers[index]) if index in answers else message.tool_call_id
            row["tool_call_id"] = known or f"call_{index}"
        rows.append(row)
    return rows


def _call_id(context: Sequence[Message], index: int, number: int) -> str:
    return context[index].tool_calls[number].id or f"call_{index}_{number}"
