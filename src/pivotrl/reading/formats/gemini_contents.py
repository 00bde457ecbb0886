"""Contents of Google's Gemini API, ``{role, parts}``, as chat messages."""

from __future__ import annotations

from typing import Any

from pivotrl.reading.chat_messages import arguments_text
from pivotrl.reading.fields import as_object, each, identifier, member, optional
from pivotrl.reading.thoughts import joined
from pivotrl.records import Loss, Message, Role, ToolCall

_ROLES: dict[str, Role] = {"user": "user", "model": "assistant", "assistant": "assistant", "function": "user"}
_ROLES["system"] = "system"
_MEDIA = ("inlineData", "inline_data", "fileData", "file_data")
_SILENT = {"thoughtSignature", "thought_signature", "thought", "videoMetadata"}


def is_content(item: Any) -> bool:
    """A content of the API, which has parts where others have content."""
    return isinstance(item, dict) and isinstance(item.get("parts"), list) and isinstance(item.get("role", ""), str)


def gemini_messages(item: Any, lost: list[Loss]) -> list[Message]:
    """A content as messages: the results of calls that it holds first, then the rest as one message.

    Args:
        lost: receives what is left out; the index counts the messages returned.

    Raises:
        ValueError: it is malformed.
    """
    row = as_object(item)
    role = _ROLES.get(optional(row, "role", str) or "user")
    if role is None:
        raise ValueError(f"unknown role {row['role']}; there are {', '.join(_ROLES)}")
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    results: list[Message] = []
    for part in each("parts", member(row, "parts", list), as_object):
        call, answer = _either(part, "functionCall"), _either(part, "functionResponse")
        text = optional(part, "text", str)
        if call is not None:
            calls.append(function_call(call))
        elif answer is not None:
            results.append(function_result(answer))
        elif text is not None:
            (thoughts if part.get("thought") is True else texts).append(text)
        elif any(key in part for key in _MEDIA):
            lost.append(Loss(code="image", message=len(results)))
        elif part.keys() - _SILENT:
            lost.append(Loss(code="unknown_item", message=len(results), detail=", ".join(map(str, part))[:80]))
    if role == "assistant":
        return [
            Message(
                role="assistant",
                content="".join(texts) or None,
                reasoning=joined(*thoughts),
                tool_calls=tuple(calls),
            )
        ]
    return [*results, *([Message(role=role, content="\n".join(texts))] if texts or not results else [])]


def instruction_text(value: Any) -> str | None:
    """``systemInstruction``: a text, or a content of texts."""
    if isinstance(value, dict):
        parts = each("parts", member(value, "parts", list), as_object)
        return "\n".join(member(part, "text", str) for part in parts)
    return value if isinstance(value, str) else None


def function_call(row: dict[str, Any]) -> ToolCall:
    return ToolCall(name=member(row, "name", str), arguments=arguments_text(row.get("args")), id=identifier(row, "id"))


def function_result(row: dict[str, Any]) -> Message:
    """What a function answered: its ``output`` or ``error`` alone where there is nothing else."""
    response: Any = row.get("response")
    if isinstance(response, dict) and len(response) == 1:
        response = next(
            (response[key] for key in ("output", "result", "error", "content") if key in response), response
        )
    text = response if isinstance(response, str) else arguments_text(response)
    return Message(role="tool", content=text, tool_call_id=identifier(row, "id"))


def _either(part: dict[str, Any], name: str) -> dict[str, Any] | None:
    """A member in the spelling of the API or of its Python client."""
    snake = {"functionCall": "function_call", "functionResponse": "function_response"}[name]
    return optional(part, name, dict) or optional(part, snake, dict)
