"""Events of the OpenHands SDK (V1) as the messages that the model was shown."""

from __future__ import annotations

from typing import Any

from pivotrl.reading.chat_messages import declared_tools, text_of, tool_call
from pivotrl.reading.fields import as_object, each, member, optional
from pivotrl.reading.formats.openhands_texts import terminal_text
from pivotrl.records import Loss, Message, Role, Tool

_TERMINALS = {"TerminalObservation", "ExecuteBashObservation"}
_REWORDED = {"TaskObservation", "ConsultTomObservation", "SleeptimeComputeObservation", "BrowserObservation"}
"""Observations that the model is shown with more, or in other words, than the log holds."""
_ERROR = "[An error occurred during execution.]\n"
_SPEAKERS: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}


def event_message(event: dict[str, Any], lost: list[Loss]) -> Message:
    """One event as a message; of a response with several calls, each event holds one.

    Args:
        lost: receives what is left out, or shown in other words.

    Raises:
        ValueError: the event is malformed.
    """
    kind = event["kind"]
    if kind == "SystemPromptEvent":
        parts = [event.get("system_prompt"), event.get("dynamic_context")]
        return Message(role="system", content=text_of([part for part in parts if part is not None]))
    if kind == "MessageEvent":
        row = member(event, "llm_message", dict)
        role = _SPEAKERS.get(member(row, "role", str))
        if role is None:
            raise ValueError(f"a message event of role {row['role']}")
        parts = [*member(row, "content", list), *(optional(event, "extended_content", list) or ())]
        calls = tuple(each("tool_calls", optional(row, "tool_calls", list) or (), tool_call))
        return Message(
            role=role, content=text_of(parts, losses=lost), reasoning=_reasoning(row, lost), tool_calls=calls
        )
    if kind == "ActionEvent":
        content = text_of(member(event, "thought", list), losses=lost) or None
        call = tool_call(member(event, "tool_call", dict))
        return Message(role="assistant", content=content, reasoning=_reasoning(event, lost), tool_calls=(call,))
    if kind == "CondensationSummaryEvent":
        return Message(role="user", content=member(event, "summary", str))
    return Message(role="tool", content=_result(event, lost), tool_call_id=member(event, "tool_call_id", str))


def _result(event: dict[str, Any], lost: list[Loss]) -> str | None:
    if event["kind"] == "AgentErrorEvent":
        return member(event, "error", str)
    if event["kind"] == "UserRejectObservation":
        return f"Action rejected: {optional(event, 'rejection_reason', str) or 'User rejected the action'}"
    row = member(event, "observation", dict)
    kind = optional(row, "kind", str)
    parts: list[Any] = [{"type": "text", "text": _ERROR}] if row.get("is_error") else []
    content = row.get("content")
    if kind in _TERMINALS:
        output = text_of(content) or ""
        parts.append({"type": "text", "text": terminal_text(output, optional(row, "metadata", dict) or {})})
    else:
        parts += content if isinstance(content, list) else [{"type": "text", "text": member(row, "content", str)}]
    if kind in _REWORDED:
        lost.append(Loss(code="context_not_logged", detail=f"{kind} in the harness's own words"))
    return text_of([*parts, *(optional(event, "extended_content", list) or ())], losses=lost)


def _reasoning(row: dict[str, Any], lost: list[Loss]) -> str | None:
    """The thought, from whichever of the providers' forms holds it."""
    blocks = [as_object(block) for block in optional(row, "thinking_blocks", list) or ()]
    item = optional(row, "responses_reasoning_item", dict) or {}
    texts = [optional(block, "thinking", str) for block in blocks]
    thought = optional(row, "reasoning_content", str) or "\n".join(filter(None, texts))
    summary = item.get("content") or item.get("summary")
    if not thought and isinstance(summary, list):
        thought = "\n".join(part for part in summary if isinstance(part, str))
    if any(block.get("type") == "redacted_thinking" for block in blocks) or item.get("encrypted_content"):
        lost.append(Loss(code="reasoning_encrypted"))
    return thought or None


def event_tools(event: dict[str, Any]) -> tuple[tuple[Tool, ...], list[Loss]]:
    """Tools with their parameters, which only the first versions logged."""
    rows = each("tools", optional(event, "tools", list) or (), as_object)
    if rows and all("function" in row or "parameters" in row for row in rows):
        return declared_tools(rows), []
    return (), [Loss(code="tools_not_logged", detail="their parameters are not in the log")]
