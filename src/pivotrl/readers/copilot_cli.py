"""Sessions of GitHub Copilot CLI: lines of events ``{type, data, id, parentId}``.

``assistant.message`` holds the calls, ``tool.execution_complete`` their results. These logs lack system message and
tools unless the session states them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import arguments_text, task_hash
from pivotrl.reading.fields import as_object, each, identifier, member, optional
from pivotrl.reading.formats.session_logs import Entry, read_session, whole_lines
from pivotrl.records import Loss, Message, Refusal, ToolCall, Trajectory

_SAID = ("user.message", "assistant.message", "system.message")
_TYPES = (*_SAID, "session.start", "tool.execution_start", "tool.execution_complete")


def recognises(head: Sequence[Any]) -> bool:
    """Events, some of these types."""
    events = [v["type"] for v in head if isinstance(v, dict) and isinstance(v.get("data"), dict) and _is_named(v)]
    return 2 * len(events) > len(head) and any(kind in _TYPES for kind in events)


def _is_named(event: Entry) -> bool:
    return isinstance(event.get("type"), str) and "id" in event


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory per session, without the work of sub-agents; after a compaction no turn is a candidate.

    Raises:
        InputError: the file cannot be read.
    """
    return read_session(path, whole_lines(path), lambda lines: [_trajectory(lines, path)])


def _trajectory(lines: Sequence[Entry], path: Path) -> Trajectory:
    messages: list[Message] = []
    losses: list[Loss] = [Loss(code="tools_not_logged")]
    excluded: dict[int, str] = {}
    session: dict[str, Any] = {}
    num_others, is_compacted = 0, False
    for line in lines:
        kind, data = line.get("type"), optional(line, "data", dict) or {}
        if kind == "session.start":
            session = data
        elif isinstance(kind, str) and kind.startswith("session.compaction"):
            is_compacted = True
        elif data.get("parentToolCallId") and kind in _TYPES:
            num_others += 1
        elif kind in _SAID:
            if data.get("reasoningOpaque") and not data.get("reasoningText"):
                losses.append(Loss(code="reasoning_encrypted", message=len(messages)))
            if kind == "assistant.message" and is_compacted:
                excluded[len(messages)] = "after_compaction"
            messages.append(_message(str(kind), data))
        elif kind == "tool.execution_complete":
            messages.append(_result(data))
    if not any(message.role == "assistant" for message in messages):
        raise ValueError("there is no assistant message, so there is no turn to learn from")
    losses += [Loss(code="compaction")] if is_compacted else []
    losses += [Loss(code="subagent", detail=f"{num_others} events")] if num_others else []
    model = session.get("selectedModel")
    return Trajectory(
        id=identifier(session, "sessionId") or path.stem,
        task_id=task_hash(messages),
        messages=tuple(messages),
        excluded=excluded,
        metadata={"foreign": {"model": model}} if isinstance(model, str) else {},
        losses=tuple(losses),
    )


def _message(kind: str, data: dict[str, Any]) -> Message:
    text = optional(data, "content", str)
    if kind == "user.message":
        return Message(role="user", content=optional(data, "transformedContent", str) or text)
    if kind == "system.message":
        return Message(role="system", content=text)
    calls = each("toolRequests", optional(data, "toolRequests", list) or (), as_object)
    return Message(
        role="assistant",
        content=text or None,
        reasoning=optional(data, "reasoningText", str) or None,
        tool_calls=tuple(
            ToolCall(
                name=member(call, "name", str),
                arguments=arguments_text(call.get("arguments")),
                id=identifier(call, "toolCallId"),
            )
            for call in calls
        ),
    )


def _result(data: dict[str, Any]) -> Message:
    result: Any = data.get("result") if data.get("result") is not None else data.get("error")
    if isinstance(result, dict):
        result = next((result[key] for key in ("content", "message", "detailedContent") if key in result), result)
    text = result if isinstance(result, str) else arguments_text(result)
    return Message(role="tool", content=text, tool_call_id=identifier(data, "toolCallId"))
