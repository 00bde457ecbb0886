"""Dialogues of API-Bank: a file of lines ``{role: User | AI | API, text}``, in which API lines are calls with results.

The file is one conversation. A call belongs to the assistant, its result follows as a tool message.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import arguments_text, task_hash
from pivotrl.reading.conversation_files import are_messages, read_rows
from pivotrl.reading.fields import as_object, each, member
from pivotrl.records import Loss, Message, Refusal, ToolCall, Trajectory

_ROLES = ("User", "AI", "API")


def recognises(head: Sequence[Any]) -> bool:
    """Lines of these roles, some of which are calls."""
    return are_messages(head, _is_line) and any(_is_line(line) and line["role"] == "API" for line in head)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory per file.

    Raises:
        InputError: the file cannot be read.
    """
    return read_rows(path, _is_line, _trajectory)


def _trajectory(row: dict[str, Any], name: str) -> Trajectory:
    lines = each("lines", member(row, "messages", list), as_object)
    messages = [message for made in each("lines", lines, _messages) for message in made]
    if not any(message.role == "assistant" for message in messages):
        raise ValueError("there is no assistant line, so there is no turn to learn from")
    return Trajectory(
        id=name, task_id=task_hash(messages), messages=tuple(messages), losses=(Loss(code="tools_not_logged"),)
    )


def _messages(line: dict[str, Any]) -> list[Message]:
    role = member(line, "role", str)
    if role == "API":
        result = line.get("result")
        output = result.get("output") if isinstance(result, dict) and result.get("output") is not None else result
        text = output if isinstance(output, str) else arguments_text(output)
        call = ToolCall(name=member(line, "api_name", str), arguments=arguments_text(line.get("param_dict")))
        return [Message(role="assistant", tool_calls=(call,)), Message(role="tool", content=text)]
    if role not in _ROLES:
        raise ValueError(f"unknown role {role[:40]!r}; there are {', '.join(_ROLES)}")
    return [Message(role="user" if role == "User" else "assistant", content=member(line, "text", str))]


def _is_line(value: Any) -> bool:
    return isinstance(value, dict) and value.get("role") in _ROLES and ("text" in value or "api_name" in value)
