"""Messages of Anthropic's API, whose content is a text or blocks, as chat messages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pivotrl.reading.chat_messages import arguments_text, declared_tools, text_of
from pivotrl.reading.fields import as_object, each, member, optional
from pivotrl.records import Loss, Message, Tool, ToolCall

_FILES = {"image": "image", "document": "document", "container_upload": "document"}
"""Types of blocks -> the loss that leaving them out is."""
_OWN_BLOCKS = ("tool_use", "tool_result", "server_tool_use", "redacted_thinking")


def has_block(item: Any) -> bool:
    """Whether a message holds blocks that only this API has, or Bedrock's, which have no type."""
    content = item.get("content") if isinstance(item, dict) else None
    if not isinstance(content, list):
        return False
    return any(isinstance(b, dict) and b.get("type") in _OWN_BLOCKS for b in content) or is_converse(item)


def is_converse(item: dict[str, Any]) -> bool:
    """Whether a message is one of Bedrock's Converse: ``{role, content: [{text} | {toolUse} | {toolResult}]}``."""
    content = item.get("content")
    if not isinstance(content, list) or not content or item.keys() != {"role", "content"}:
        return False
    return all(isinstance(block, dict) and "type" not in block and _CONVERSE & block.keys() for block in content)


_CONVERSE = {"text", "toolUse", "toolResult", "reasoningContent", "image", "document", "video", "cachePoint"}


def _typed(block: dict[str, Any]) -> dict[str, Any]:
    """A block of Converse as one of Anthropic's; any other as it is."""
    if "type" in block or not _CONVERSE & block.keys():
        return block
    if "toolUse" in block:
        used = member(block, "toolUse", dict)
        return {"type": "tool_use", "id": used.get("toolUseId"), "name": used.get("name"), "input": used.get("input")}
    if "toolResult" in block:
        result = member(block, "toolResult", dict)
        parts = [_shown(part) for part in each("content", optional(result, "content", list) or [], as_object)]
        return {"type": "tool_result", "tool_use_id": result.get("toolUseId"), "content": parts}
    if "reasoningContent" in block:
        thought = member(block, "reasoningContent", dict).get("reasoningText")
        return {"type": "thinking", "thinking": thought.get("text") if isinstance(thought, dict) else None}
    kind = next(key for key in ("text", *_CONVERSE) if key in block)
    return {"type": kind, "text": block.get("text")}


def _shown(part: dict[str, Any]) -> dict[str, Any]:
    if "json" in part:
        return {"type": "text", "text": json.dumps(part["json"], ensure_ascii=False)}
    return _typed(part)


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
    parts = [_typed(block) for block in each("content", blocks, as_object)]
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
    for block in map(_typed, each("content", blocks, as_object)):
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


def system_text(value: Any) -> str | None:
    """``system``: a text or blocks; those that only mark a cache say nothing."""
    if not isinstance(value, list):
        return text_of(value)
    return text_of([_typed(block) for block in each("system", value, as_object) if "cachePoint" not in block])


def anthropic_tools(value: Any) -> tuple[Tool, ...]:
    """Tools with an ``input_schema``, or Bedrock's ``toolConfig``; those that the provider runs itself are left out."""
    if isinstance(value, dict):
        return declared_tools([tool for tool in optional(value, "tools", list) or [] if "toolSpec" in as_object(tool)])
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
