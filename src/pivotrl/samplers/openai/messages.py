"""A turn's context as messages of the chat API."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from pivotrl.records import Message


def chat_messages(context: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages; thoughts are left out. Calls without an id get one, and results without one are given those of the
    latest calls, in order."""
    written, waiting, number = list[dict[str, Any]](), deque[str](), 0
    for message in context:
        row: dict[str, Any] = {"role": message.role, "content": message.content or ""}
        if message.tool_calls:
            waiting.clear()
            row["tool_calls"] = []
            for call in message.tool_calls:
                name, number = call.id or f"call_{number}", number + 1
                waiting.append(name)
                function = {"name": call.name, "arguments": call.arguments}
                row["tool_calls"].append({"id": name, "type": "function", "function": function})
        if message.role == "tool":
            given = message.tool_call_id or (waiting[0] if waiting else f"call_{number}")
            if given in waiting:
                waiting.remove(given)
            row["tool_call_id"] = given
        written.append(row)
    return written
