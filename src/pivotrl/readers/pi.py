"""Sessions of Pi and OpenClaw: lines ``{type: message, id, parentId, message}`` that form a tree.

The reader follows the branch that ends last. These logs lack system message and tools.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import arguments_text, task_hash, text_of
from pivotrl.reading.fields import as_object, each, identifier, member, optional
from pivotrl.reading.formats.session_logs import Entry, read_session, whole_lines
from pivotrl.reading.thoughts import PART_TYPES, joined, thought_text
from pivotrl.records import Loss, Message, Refusal, ToolCall, Trajectory

_ROLES = ("user", "assistant", "toolResult")
_FAULTS = {"length": "truncated", "error": "error_turn", "aborted": "error_turn"}


def recognises(head: Sequence[Any]) -> bool:
    """Lines of the tree, with a message in it."""
    return 2 * sum(map(_is_line, head)) > len(head) and any(map(_is_said, head))


def _is_line(value: Any) -> bool:
    return isinstance(value, dict) and ("parentId" in value or value.get("type") == "session")


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory a session. After a compaction no turn is a candidate: the model saw a summary.

    Raises:
        InputError: the file cannot be read.
    """
    return read_session(path, whole_lines(path), lambda lines: [_trajectory(lines, path)])


def _trajectory(lines: Sequence[Entry], path: Path) -> Trajectory:
    chain, num_others = _branch(lines)
    messages: list[Message] = []
    losses = [Loss(code="tools_not_logged")]
    excluded: dict[int, str] = {}
    is_compacted = False
    for line in chain:
        if line.get("type") == "compaction":
            is_compacted = True
            losses.append(Loss(code="compaction"))
        if not _is_said(line):
            continue
        row, place = member(line, "message", dict), len(messages)
        found: list[Loss] = []
        messages.append(_message(row, found))
        losses += [loss.model_copy(update={"message": place}) for loss in found]
        if messages[-1].role == "assistant":
            reason = "after_compaction" if is_compacted else _FAULTS.get(str(row.get("stopReason")))
            if reason is not None:
                excluded[place] = reason
    if not any(message.role == "assistant" for message in messages):
        raise ValueError("there is no assistant message, so there is no turn to learn from")
    if num_others:
        losses.append(Loss(code="branch", detail=f"{num_others} messages on other branches"))
    session = next((line for line in lines if line.get("type") == "session"), {})
    models = [line["message"]["model"] for line in chain if _is_said(line) and line["message"].get("model")]
    return Trajectory(
        id=identifier(session, "id") or path.stem,
        task_id=task_hash(messages),
        messages=tuple(messages),
        excluded=excluded,
        metadata={"foreign": {"model": models[-1]}} if models and isinstance(models[-1], str) else {},
        losses=tuple(losses),
    )


def _branch(lines: Sequence[Entry]) -> tuple[list[Entry], int]:
    """(the lines from the root to the last message, how many messages lie elsewhere)."""
    by_id = {line["id"]: line for line in lines if isinstance(line.get("id"), str)}
    leaf: Entry | None = next((line for line in reversed(lines) if _is_said(line)), None)
    chain: list[Entry] = []
    seen: set[str] = set()
    while leaf is not None and leaf["id"] not in seen:
        seen.add(leaf["id"])
        chain.append(leaf)
        leaf = by_id.get(str(leaf.get("parentId")))
    num_others = sum(1 for line in lines if _is_said(line) and line["id"] not in seen)
    return chain[::-1], num_others


def _message(row: dict[str, Any], lost: list[Loss]) -> Message:
    role = row["role"]
    content = row.get("content")
    parts = each("content", content, as_object) if isinstance(content, list) else []
    if role == "toolResult":
        return Message(role="tool", content=text_of(content, losses=lost), tool_call_id=identifier(row, "toolCallId"))
    if role == "user":
        return Message(role="user", content=text_of(content, losses=lost))
    calls = [part for part in parts if part.get("type") == "toolCall"]
    thoughts = [part for part in parts if part.get("type") in PART_TYPES]
    rest = [part for part in parts if part.get("type") != "toolCall" and part.get("type") not in PART_TYPES]
    return Message(
        role="assistant",
        content=(text_of(rest, losses=lost) if parts else text_of(content)) or None,
        reasoning=joined(*(thought_text("thinking", part, lost) for part in thoughts)),
        tool_calls=tuple(each("toolCall", calls, _call)),
    )


def _call(part: dict[str, Any]) -> ToolCall:
    arguments = arguments_text(part.get("arguments"))
    return ToolCall(name=member(part, "name", str), arguments=arguments, id=optional(part, "id", str))


def _is_said(line: Any) -> bool:
    if not isinstance(line, dict) or line.get("type") != "message" or not isinstance(line.get("id"), str):
        return False
    message = line.get("message")
    return "parentId" in line and isinstance(message, dict) and message.get("role") in _ROLES
