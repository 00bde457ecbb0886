"""Calls of Cohere's first chat API: requests ``{message, chat_history, preamble?, tools?}``, each with its response.

A row is a request with its ``response``, or holds both under ``request`` and ``response``. Calls of which each goes on
from the one before are one trajectory. Rows for tuning, ``{messages: [{role: Chatbot, content}]}``, are read too. Calls
have no ids; what a tool returned is written as JSON, and the model saw the same in the words of Cohere's template.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import declared_tools
from pivotrl.reading.fields import as_object, each, identifier, member, optional
from pivotrl.reading.formats.called_trajectories import called_trajectories
from pivotrl.reading.formats.model_calls import ModelCall
from pivotrl.reading.formats.request_calls import Called
from pivotrl.reading.sources import entries, refusal
from pivotrl.records import Loss, Message, Refusal, ToolCall, Trajectory

_ROLES = {"USER": "user", "CHATBOT": "assistant", "SYSTEM": "system", "TOOL": "tool"}
_MARKS = {"chat_history", "preamble", "tool_results"}
_ASKED = ("conversation_id", "session_id", "trace_id")


def recognises(head: Sequence[Any]) -> bool:
    """Requests with a message and a history or a preamble, or rows for tuning."""
    return 2 * sum(_is_request(_request(row)) or _is_tuning(row) for row in head) > len(head)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """The conversations that the calls belong to.

    Where the request has documents, or the API searched for some, its turns are no candidates: the log does not say how
    the model saw them.

    Raises:
        InputError: the file cannot be read.
    """
    groups: dict[str | None, list[ModelCall]] = {}
    for entry in entries(path):
        try:
            row = as_object(entry.load())
            groups.setdefault(identifier(row, *_ASKED), []).append(_tuning(row) if _is_tuning(row) else _call(row))
        except ValueError as error:
            yield refusal(entry.place, error)
    for group, calls in groups.items():
        yield from called_trajectories(calls, group or path.stem, is_named=group is not None)


def _request(row: Any) -> Any:
    inner = row.get("request") if isinstance(row, dict) else None
    return inner if isinstance(inner, dict) else row


def _is_request(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("message"), str) and not _MARKS.isdisjoint(row)


def _is_tuning(row: Any) -> bool:
    messages = row.get("messages") if isinstance(row, dict) else None
    return isinstance(messages, list) and any(isinstance(m, dict) and m.get("role") == "Chatbot" for m in messages)


def _tuning(row: dict[str, Any]) -> ModelCall:
    messages = [message for item in row["messages"] for message in _messages(item)]
    if messages[-1].role != "assistant":
        raise ValueError("the last message is not the Chatbot's")
    return ModelCall(tuple(messages[:-1]), messages[-1], None, (), Called((), row))


def _call(row: dict[str, Any]) -> ModelCall:
    request, response = as_object(_request(row)), row.get("response")
    if not isinstance(response, dict):
        raise ValueError("there is no response to the request")
    losses: list[Loss] = []
    preamble = optional(request, "preamble", str) or optional(request, "preamble_override", str)
    messages = [Message(role="system", content=preamble)] if preamble else []
    for item in optional(request, "chat_history", list) or []:
        messages += _messages(item)
    if text := optional(request, "message", str):
        messages.append(Message(role="user", content=text))
    if results := optional(request, "tool_results", list):
        if not (messages and messages[-1].tool_calls):  # with force_single_step the history lacks the calls
            losses.append(Loss(code="action_rebuilt", message=len(messages)))
            calls = each("tool_results", results, lambda result: _tool_call(member(as_object(result), "call", dict)))
            messages.append(Message(role="assistant", tool_calls=tuple(calls)))
        messages += each("tool_results", results, _result)
    if not messages:
        raise ValueError("the request holds no messages")
    if request.get("documents") or request.get("connectors") or response.get("documents"):
        losses.append(Loss(code="document", message=len(messages) - 1))
    ending = response.get("finish_reason")
    if isinstance(ending, str) and (ending.startswith("ERROR") or ending == "USER_CANCEL"):
        raise ValueError(f"the call ended with {ending}")
    answer = Message(role="assistant", content=optional(response, "text", str), tool_calls=_calls(response))
    barred = "truncated" if ending == "MAX_TOKENS" else None
    return ModelCall(tuple(messages), answer, barred, tuple(losses), Called(declared_tools(request.get("tools")), row))


def _messages(item: Any) -> list[Message]:
    """An entry of a history: a message, or the results of several tools."""
    row = as_object(item)
    role = _ROLES.get(member(row, "role", str).upper())
    if role is None:
        raise ValueError(f"unknown role {row['role']!r:.40}; there are {', '.join(_ROLES)}")
    if role == "tool":
        return each("tool_results", member(row, "tool_results", list), _result)
    text = optional(row, "message", str)
    text = optional(row, "content", str) if text is None else text
    if role == "assistant":
        return [Message(role="assistant", content=text, tool_calls=_calls(row))]
    return [Message(role="system" if role == "system" else "user", content=text)]


def _calls(row: dict[str, Any]) -> tuple[ToolCall, ...]:
    return tuple(each("tool_calls", optional(row, "tool_calls", list) or (), _tool_call))


def _tool_call(item: Any) -> ToolCall:
    row = as_object(item)
    parameters = optional(row, "parameters", dict) or {}
    return ToolCall(name=member(row, "name", str), arguments=json.dumps(parameters, ensure_ascii=False))


def _result(item: Any) -> Message:
    outputs = member(as_object(item), "outputs", list)
    value = outputs[0] if len(outputs) == 1 else outputs
    return Message(role="tool", content=json.dumps(value, ensure_ascii=False))
