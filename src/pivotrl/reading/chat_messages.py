"""OpenAI-style chat messages, tool calls and tool declarations, the basis of many formats."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from reprlib import repr as short
from typing import Any

from pivotrl.reading.fields import as_object, each, member, optional
from pivotrl.reading.thoughts import (
    KEYS,
    joined,
    may_begin_with_thought,
    thought_of,
    without_thought,
    without_thought_parts,
)
from pivotrl.reading.tool_schemas import tools_of
from pivotrl.records import Loss, Message, Role, Tool, ToolCall
from pivotrl.records.strict_json import kind_of, parse_json

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
"""The roles of chat logs and what they map to."""


def chat_messages(items: Sequence[Any], losses: list[Loss] | None = None) -> tuple[Message, ...]:
    """OpenAI-style messages.

    Args:
        losses: receives what is left out, such as images; without it, everything except text is refused.

    Raises:
        ValueError: a message is malformed, has an unknown role or contains more than text; none is the assistant's.
    """
    messages: list[Message] = []
    found: list[Loss] = []
    try:
        for item in items:
            messages.append(chat_message(item, None if losses is None else found))
            if found and losses is not None:
                losses += [loss.model_copy(update={"message": len(messages) - 1}) for loss in found]
                found.clear()
    except ValueError as error:
        raise ValueError(f"messages[{len(messages)}]: {error}") from error
    if not any(message.role == "assistant" for message in messages):
        raise ValueError("there is no assistant message, so there is no turn to learn from")
    return tuple(messages)


def one_message(item: Any, lost: list[Loss]) -> list[Message]:
    """For readers that convert each item to a list of messages."""
    return [chat_message(item, lost)]


def chat_message(item: Any, losses: list[Loss] | None = None) -> Message:
    """One OpenAI-style message, in the current form or the legacy one with ``function_call``.

    Thoughts become its reasoning, whether they stand before the text, in parts of it or in a field of another name.
    """
    row = item if type(item) is dict else as_object(item)
    name, content, call_id = row.get("role"), row.get("content"), row.get("tool_call_id")
    role = ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise ValueError(f"unknown role {short(member(row, 'role', str))}; there are {', '.join(ROLES)}")
    is_plain = _PLAIN.issuperset(row) and (call_id is None or type(call_id) is str)
    if is_plain and type(content) is str and not (role == "assistant" and may_begin_with_thought(content)):
        return Message(role=role, content=content, tool_call_id=call_id)  # most messages: the fast path
    if row.get("audio"):
        _leave_out("audio", "holds audio; only text can be read", losses)
    given = optional(row, "tool_calls", list) or optional(row, "toolCalls", list)
    calls = each("tool_calls", given, tool_call) if given else []
    if legacy := row.get("function_call"):
        calls.append(tool_call(legacy))
    if calls and role != "assistant":
        raise ValueError(f"a {name} message with tool calls")
    text, thought = _said(row, losses) if role == "assistant" else (text_of(content, losses=losses), None)
    return Message(
        role=role,
        content=text,
        reasoning=thought,
        tool_calls=tuple(calls),
        tool_call_id=optional(row, "tool_call_id", str) or optional(row, "toolCallId", str),
    )


_PLAIN = frozenset({"role", "content", "tool_call_id", "name"})


def _said(row: dict[str, Any], losses: list[Loss] | None) -> tuple[str | None, str | None]:
    """(the text of an assistant's message, its thought)."""
    content, inner = row.get("content"), None
    is_text = isinstance(content, str) and not may_begin_with_thought(content)
    if (is_text or content is None) and KEYS.isdisjoint(row):
        return content, None
    lost = losses if losses is not None else []
    if isinstance(content, list):
        said, inner = without_thought_parts(content, lost)
        content = said if said or not content else None
    text, before = text_of(content, losses=losses), None
    if text and may_begin_with_thought(text):
        text, before = without_thought(text)
    return text, joined(thought_of(row, text, lost), inner, before)


def tool_call(item: Any) -> ToolCall:
    """A tool call of OpenAI's nested form, or flat with ``call_id`` or ``id``; LangChain's ``args`` are arguments."""
    row = as_object(item)
    function, call_id = row.get("function"), row.get("id")
    if type(function) is dict and type(call_id) is str and row.get("type") == "function" and "call_id" not in row:
        name, arguments = function.get("name"), function.get("arguments")
        if type(name) is str and type(arguments) is str and arguments[:1] == "{":
            return ToolCall(name=name, arguments=arguments, id=call_id)  # most calls: the fast path
    if row.get("type") not in (None, "function", "function_call", "tool_call"):
        raise ValueError(f"tool call of type {short(row['type'])}; only functions can be read")
    function = optional(row, "function", dict) or row
    return ToolCall(
        name=member(function, "name", str),
        arguments=arguments_text(function.get("arguments", function.get("args"))),
        id=optional(row, "call_id", str) or optional(row, "id", str),
    )


def arguments_text(arguments: Any) -> str:
    """Arguments as JSON text: a text as it is, no arguments as ``{}``, anything else written with its keys in order."""
    if isinstance(arguments, str):
        return arguments if arguments.strip() else "{}"
    return "{}" if arguments is None else json.dumps(arguments, ensure_ascii=False)


def text_of(
    content: Any,
    part_types: Sequence[str] = ("text", "input_text", "output_text"),
    losses: list[Loss] | None = None,
) -> str | None:
    """The text of a message: a string, null, or a list of text parts, joined by newlines.

    Args:
        losses: receives one loss for each image, recording or file, which are left out; without it they are refused.

    Raises:
        ValueError: the message contains something other than text; the message names it.
    """
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError(f"content is {kind_of(content)}, not text")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else kind_of(part)
        if (
            kind == "document"
            and isinstance(inner := part.get("document"), dict)
            and isinstance(inner.get("data"), str)
        ):
            texts.append(inner["data"])  # what a tool returned, as Cohere's API has it
        elif kind in part_types:
            texts.append(member(as_object(part), "text", str))
        else:
            known = isinstance(part, dict) and isinstance(kind, str) and _NOT_TEXT.get(kind)
            _leave_out(known or None, f"content part of type {short(kind)}; only text can be read", losses)
    return "\n".join(texts)


_NOT_TEXT = {
    "image_url": "image",
    "input_image": "image",
    "image": "image",
    "input_audio": "audio",
    "audio": "audio",
    "file": "document",
    "input_file": "document",
    "document": "document",
}
"""Types of content parts -> the code of the loss."""


def _leave_out(code: str | None, fault: str, losses: list[Loss] | None) -> None:
    if losses is None or code is None:
        raise ValueError(fault)
    losses.append(Loss(code=code))


def declared_tools(value: Any) -> tuple[Tool, ...]:
    """Tools in any spelling (:mod:`pivotrl.reading.tool_schemas`); a list, or its JSON text. Equal lists give the same
    object.

    Raises:
        ValueError: it is not a list of tools.
    """
    if value is None:
        return ()
    return _parsed_tools(value if isinstance(value, str) else json.dumps(value))


@functools.lru_cache(maxsize=256)
def _parsed_tools(text: str) -> tuple[Tool, ...]:
    """Every trajectory of a log declares the same few sets of tools; each is parsed once."""
    value = parse_json(text)
    if isinstance(value, dict):  # one tool, or tools by their names
        is_one = "name" in value or isinstance(value.get("function"), dict)
        value = [value] if is_one else [{"name": name, **as_object(tool)} for name, tool in value.items()]
    declared = each("tools", optional({"tools": value}, "tools", list) or (), lambda item: [*tools_of(item)])
    return tuple(tool for tools in declared for tool in tools)


def task_hash(messages: Sequence[Message], roles: Sequence[Role] = ("system", "user")) -> str:
    """A task id from the first message of each role, so that runs of one task share it."""
    first = [next((m.content for m in messages if m.role == role), None) for role in roles]
    return f"task-{hashlib.sha256(json.dumps(first).encode()).hexdigest()[:16]}"
