"""Calls that a harness noted beside an agent's text: what the text says already, for tools that nobody offered.

Agents that write their actions as text (Terminus, mini-swe-agent's text mode) are logged with a call for each command
in some exports. The agent never made those calls; what the terminal showed went to it as the user's words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pivotrl.records import Message, ToolCall
from pivotrl.records.strict_json import parse_json


def without_mirrored_calls(messages: Sequence[Message]) -> tuple[Message, ...] | None:
    """The conversation as the agent had it; None where its calls are its own.

    Every call must stand in the text of its turn, word for word.
    """
    acting = [message for message in messages if message.tool_calls]
    if not acting or not all(
        _is_mirrored(call, message.content or "") for message in acting for call in message.tool_calls
    ):
        return None
    made: list[Message] = []
    for message in messages:
        if message.role == "tool":
            made.append(Message(role="user", content=message.content))
        else:
            made.append(message.model_copy(update={"tool_calls": ()}) if message.tool_calls else message)
    return tuple(made)


def _is_mirrored(call: ToolCall, text: str) -> bool:
    try:
        texts = list(_texts(parse_json(call.arguments)))
    except ValueError:
        return False
    return any(texts) and all(part in text or json.dumps(part, ensure_ascii=False)[1:-1] in text for part in texts)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value.strip()
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
