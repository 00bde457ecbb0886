"""Sessions of Gemini CLI, and of Qwen Code, which came from it.

Gemini CLI keeps a document with ``messages`` of type ``user`` and ``gemini`` (or a message a line); each holds its
calls with their results. Qwen Code keeps one line per content of the API. Both lack system message and tools.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import arguments_text, task_hash
from pivotrl.reading.fields import as_object, each, identifier, member, optional
from pivotrl.reading.formats.gemini_contents import function_result, gemini_messages, is_content
from pivotrl.reading.formats.session_logs import Entry, read_session, whole_lines
from pivotrl.reading.thoughts import joined
from pivotrl.records import Loss, Message, Refusal, ToolCall, Trajectory

_SAID = ("user", "gemini", "assistant", "tool_result")


def recognises(head: Sequence[Any]) -> bool:
    """A session, or lines of one."""
    if any(map(_is_session, head)):
        return True
    lines = [value for value in head if _is_gemini_line(value) or _is_qwen_line(value)]
    return 2 * len(lines) >= len(head) and any(line["type"] != "user" for line in lines)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory per session.

    Raises:
        InputError: the file cannot be read.
    """
    return read_session(path, whole_lines(path), lambda lines: _trajectories(lines, path))


def _trajectories(lines: Sequence[Entry], path: Path) -> list[Trajectory]:
    sessions = [line for line in lines if _is_session(line)]
    if sessions:
        return [_trajectory(each("messages", row["messages"], as_object), row, path.stem) for row in sessions]
    first = next((line for line in lines if identifier(line, "sessionId")), {})
    return [_trajectory(_latest(lines), first, path.stem)]


def _latest(lines: Sequence[Entry]) -> list[Entry]:
    """The messages of a session kept by the line: a later line of the same id replaces an earlier one."""
    found: dict[Any, Entry] = {}
    for number, line in enumerate(lines):
        if _is_gemini_line(line) or _is_qwen_line(line):
            name = line.get("id")
            found[name if isinstance(name, str) else number] = line
    return list(found.values())


def _trajectory(items: Sequence[Entry], session: dict[str, Any], name: str) -> Trajectory:
    messages: list[Message] = []
    losses: list[Loss] = [Loss(code="tools_not_logged")]
    for index, item in enumerate(items):
        if item.get("type") not in _SAID:
            continue  # what only the screen showed
        lost: list[Loss] = []
        try:
            made = gemini_messages(item["message"], lost) if _is_qwen_line(item) else _messages(item, lost)
        except ValueError as error:
            raise ValueError(f"messages[{index}]: {error}") from error
        losses += [loss.model_copy(update={"message": len(messages) + (loss.message or 0)}) for loss in lost]
        messages += made
    if not any(message.role == "assistant" for message in messages):
        raise ValueError("there is no model message, so there is no turn to learn from")
    return Trajectory(
        id=identifier(session, "sessionId") or name,
        task_id=task_hash(messages),
        messages=tuple(messages),
        losses=tuple(losses),
    )


def _messages(item: dict[str, Any], lost: list[Loss]) -> list[Message]:
    """A message, and the results of the calls that it holds."""
    text = _text(item.get("content"), lost)
    if item["type"] == "user":
        return [Message(role="user", content=text)]
    thoughts = each("thoughts", optional(item, "thoughts", list) or (), as_object)
    calls = each("toolCalls", optional(item, "toolCalls", list) or (), as_object)
    results: list[Message] = []
    for call in calls:
        for part in each("result", optional(call, "result", list) or (), as_object):
            answer = optional(part, "functionResponse", dict)
            if answer is not None:
                results.append(function_result({"id": call.get("id"), **answer}))
    said = Message(
        role="assistant",
        content=text or None,
        reasoning=joined(*(optional(thought, "description", str) for thought in thoughts)),
        tool_calls=tuple(
            ToolCall(
                name=member(call, "name", str), arguments=arguments_text(call.get("args")), id=identifier(call, "id")
            )
            for call in calls
        ),
    )
    return [said, *results]


def _text(content: Any, lost: list[Loss]) -> str | None:
    if isinstance(content, list):
        return "".join(m.content or "" for m in gemini_messages({"role": "user", "parts": content}, lost))
    if content is not None and not isinstance(content, str):
        raise ValueError("the content is neither text nor parts")
    return content


def _is_session(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("messages"), list)
        and "sessionId" in value
        and any(isinstance(item, dict) and item.get("type") == "gemini" for item in value["messages"])
    )


def _is_gemini_line(value: Any) -> bool:
    if not isinstance(value, dict) or "message" in value or "uuid" in value:
        return False
    return value.get("type") in ("user", "gemini") and {"id", "timestamp", "content"} <= value.keys()


def _is_qwen_line(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") in _SAID and is_content(value.get("message"))
