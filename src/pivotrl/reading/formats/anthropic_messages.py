"""Messages of Anthropic's API, whose content is a text or blocks, as chat messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pivotrl.reading.chat_messages import arguments_text, declared_tools, text_of
from pivotrl.reading.fields import as_object, each, member, optional
from pivotrl.records import Loss, Message, Tool, ToolCall

_FILES = {"image": "image", "document": "document", "container_upload": "document"}
"""Types of blocks -> the loss that leaving them out is."""
_OWN_BLOCKS = ("tool_use", "tool_result", "server_tool_use", "redacted_thinking")


def has_block(item: Any) -> bool:
    """Whether a message holds blocks that only this API has."""
    content = item.get("content") if isinstance(item, dict) else None
    return isinstance(content, list) and any(isinstance(b, dict) and b.get("type") in _OWN_BLOCKS for b in content)


def anthropic_messages(row: Any, lost: list[Loss]) -> list[Message]:
    """One message of the API: the results of tools that it holds first, then the rest as one message.

    Args:
        lost: receives what is left out; the index counts the messages returned.

    Raises:
        ValueError: it is malformed.
    """
    message = as_object(row)
    role, content = member(message, "role", str), message.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else member(message, "content", list)
    if role == "assistant":
        return [assistant_message(blocks, lost)]
    if role not in ("user", "system"):
        raise ValueError(f"unknown role {role}; there are user, assistant, system")
    parts = each("content", blocks, as_object)
    messages: list[Message] = []
    for block in parts:
        if block.get("type") == "tool_result":
            messages.append(result_message(block, lost, len(messages)))
    rest = [block for block in parts if block.get("type") != "tool_result"]
    texts = list(_texts(rest, lost, len(messages)))
    if rest or not messages:
        messages.append(Message(role="user" if role == "user" else "system", content="\n".join(texts)))
    return messages


def assistant_message(blocks: Sequence[Any], lost: list[Loss], place: int = 0) -> Message:
    """The blocks of one answer as one message."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for block in each("content", blocks, as_object):
        kind = member(block, "type", str)
        if kind == "text":
            texts.append(member(block, "text", str))
        elif kind == "thinking" and (thought := optional(block, "thinking", str)):
            thoughts.append(thought)
        elif kind in ("thinking", "redacted_thinking"):
            lost.append(Loss(code="reasoning_encrypted", message=place))
        elif kind == "tool_use":
            arguments = arguments_text(block.get("input"))
            calls.append(ToolCall(name=member(block, "name", str), arguments=arguments, id=optional(block, "id", str)))
        else:
            lost.append(_left_out(kind, place))
    return Message(
        role="assistant",
        content="\n".join(texts) or None,
        reasoning="\n".join(thoughts) or None,
        tool_calls=tuple(calls),
    )


def result_message(block: dict[str, Any], lost: list[Loss], place: int) -> Message:
    """A ``tool_result`` block."""
    content = block.get("content")
    if isinstance(content, list):
        content = "\n".join(_texts(each("content", content, as_object), lost, place))
    return Message(role="tool", content=text_of(content), tool_call_id=member(block, "tool_use_id", str))


def anthropic_tools(value: Any) -> tuple[Tool, ...]:
    """Tools with an ``input_schema``; those that the provider runs itself have none, and are left out."""
    rows = each("tools", optional({"tools": value}, "tools", list) or (), as_object)
    return declared_tools([{**row, "parameters": row["input_schema"]} for row in rows if "input_schema" in row])


def _texts(blocks: Sequence[dict[str, Any]], lost: list[Loss], place: int) -> Iterator[str]:
    for block in blocks:
        kind = member(block, "type", str)
        if kind == "text":
            yield member(block, "text", str)
        else:
            lost.append(_left_out(kind, place))


def _left_out(kind: str, place: int) -> Loss:
    return (
        Loss(code=_FILES[kind], message=place)
        if kind in _FILES
        else Loss(code="unknown_item", message=place, detail=kind)
    )
