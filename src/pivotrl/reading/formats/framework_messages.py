"""Messages as agent frameworks save them, in the form of OpenAI's chat.

Each :class:`Dialect` knows its messages by keys that no other format has, and turns one into chat messages: a message
may hold results of tools beside words, and an event may hold none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pivotrl.reading.chat_messages import arguments_text
from pivotrl.reading.fields import as_object, each, identifier, member, optional

Chat = dict[str, Any]


@dataclass(frozen=True)
class Dialect:
    """How one framework writes messages."""

    name: str
    is_message: Callable[[Chat], bool]
    chat: Callable[[Chat], list[Chat]]
    """(a message) -> chat messages; ValueError where it is malformed."""
    newest_first: str | None = None
    """The key of the time, where the list may begin with the newest."""
    speaker: str | None = None
    """The key that names which agent speaks."""
    is_in_pieces: bool = False
    """Whether each call of one answer is an entry of its own."""


def call(name: str, arguments: Any, call_id: str | None) -> Chat:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments_text(arguments)}}


def shown(value: Any) -> str:
    """What a tool returned, as text."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def with_pictures(parts: list[Any]) -> list[Chat]:
    """The parts of a tool's result, texts and pictures."""
    rows = each("parts", parts, as_object)
    return [{"type": "text", "text": str(row["text"])} if "text" in row else {"type": "image"} for row in rows]


def _said(role: str, texts: list[str], calls: list[Chat], thoughts: list[str] | None = None, **more: Any) -> Chat:
    row: Chat = {"role": role, "content": "\n".join(texts) if texts or not calls else None, **more}
    if calls:
        row["tool_calls"] = calls
    if thoughts:
        row["reasoning"] = "\n".join(thoughts)
    return row


def _answered(call_id: str | None, value: Any) -> Chat:
    return {"role": "tool", "tool_call_id": call_id, "content": shown(value)}


# --- AutoGen 0.4 --------------------------------------------------------------------------------------------------

_AUTOGEN = ("TextMessage", "ToolCallRequestEvent", "ToolCallExecutionEvent", "ToolCallSummaryMessage", "ThoughtEvent")
_AUTOGEN_OTHERS = ("HandoffMessage", "StopMessage", "MultiModalMessage", "StructuredMessage", "MemoryQueryEvent")


def _is_autogen(row: Chat) -> bool:
    return row.get("type") in (*_AUTOGEN, *_AUTOGEN_OTHERS) and isinstance(row.get("source"), str)


def _autogen(row: Chat) -> list[Chat]:
    """The summary of calls repeats their results; it is the framework's, not the model's."""
    kind, content = row["type"], row.get("content")
    if kind == "ToolCallRequestEvent":
        items = each("content", member(row, "content", list), as_object)
        calls = [call(member(i, "name", str), i.get("arguments"), identifier(i, "id")) for i in items]
        return [_said("assistant", [], calls)]
    if kind == "ToolCallExecutionEvent":
        items = each("content", member(row, "content", list), as_object)
        return [_answered(identifier(i, "call_id"), i.get("content")) for i in items]
    if kind == "TextMessage":
        return [{"role": "user" if row["source"] in ("user", "user_proxy") else "assistant", "content": content}]
    if kind in ("ToolCallSummaryMessage", "ThoughtEvent", "MemoryQueryEvent"):
        return []
    raise ValueError(f"a message of type {kind}; only text and tools can be read")


# --- Semantic Kernel ----------------------------------------------------------------------------------------------


def _is_semantic_kernel(row: Chat) -> bool:
    return row.get("content_type") == "message" and isinstance(row.get("items"), list)


def _semantic_kernel(row: Chat) -> list[Chat]:
    texts: list[str] = []
    calls: list[Chat] = []
    results: list[Chat] = []
    for item in each("items", row["items"], as_object):
        kind = item.get("content_type")
        if kind == "text":
            texts.append(optional(item, "text", str) or "")
        elif kind == "function_call":
            calls.append(call(member(item, "name", str), item.get("arguments"), identifier(item, "id")))
        elif kind == "function_result":
            results.append(_answered(identifier(item, "id"), item.get("result")))
        else:
            raise ValueError(f"an item of type {kind}; only text and functions can be read")
    return results if results and not texts else [*results, _said(member(row, "role", str), texts, calls)]


# --- Haystack -----------------------------------------------------------------------------------------------------


def _is_haystack(row: Chat) -> bool:
    return {"role", "meta", "content"} <= row.keys() and isinstance(row["content"], list)


def _haystack(row: Chat) -> list[Chat]:
    texts: list[str] = []
    calls: list[Chat] = []
    results: list[Chat] = []
    thoughts: list[str] = []
    for part in each("content", row["content"], as_object):
        if "text" in part:
            texts.append(member(part, "text", str))
        elif "tool_call" in part:
            made = member(part, "tool_call", dict)
            calls.append(call(member(made, "tool_name", str), made.get("arguments"), identifier(made, "id")))
        elif "tool_call_result" in part:
            made = member(part, "tool_call_result", dict)
            results.append(_answered(identifier(optional(made, "origin", dict) or {}, "id"), made.get("result")))
        elif "reasoning" in part:
            thoughts.append(str(member(part, "reasoning", dict).get("reasoning_text") or ""))
        else:
            raise ValueError(f"a part with {', '.join(map(str, part))[:60]}; only text and tools can be read")
    return results if results and not texts else [*results, _said(member(row, "role", str), texts, calls, thoughts)]


# --- LlamaIndex ---------------------------------------------------------------------------------------------------


def _is_llama_index(row: Chat) -> bool:
    return isinstance(row.get("blocks"), list) and "additional_kwargs" in row and isinstance(row.get("role"), str)


def _llama_index(row: Chat) -> list[Chat]:
    more = optional(row, "additional_kwargs", dict) or {}
    texts: list[str] = []
    calls = [as_object(item) for item in optional(more, "tool_calls", list) or []]
    for block in each("blocks", row["blocks"], as_object):
        kind = block.get("block_type")
        if kind == "text":
            texts.append(optional(block, "text", str) or "")
        elif kind == "tool_call":
            calls.append(
                call(member(block, "tool_name", str), block.get("tool_kwargs"), identifier(block, "tool_call_id"))
            )
        elif kind != "thinking":
            raise ValueError(f"a block of type {kind}; only text and tools can be read")
    role = "assistant" if row["role"] in ("chatbot", "model") else member(row, "role", str)
    return [_said(role, texts, calls, tool_call_id=more.get("tool_call_id"))]


# --- Pydantic AI --------------------------------------------------------------------------------------------------


def _is_pydantic_ai(row: Chat) -> bool:
    return row.get("kind") in ("request", "response") and isinstance(row.get("parts"), list)


def _pydantic_ai(row: Chat) -> list[Chat]:
    if row["kind"] == "request":
        return [made for part in each("parts", row["parts"], as_object) for made in _pydantic_request(part)]
    texts: list[str] = []
    calls: list[Chat] = []
    thoughts: list[str] = []
    for part in each("parts", row["parts"], as_object):
        kind = part.get("part_kind")
        if kind == "text":
            texts.append(member(part, "content", str))
        elif kind == "thinking":
            thoughts.append(optional(part, "content", str) or "")
        elif kind == "tool-call":
            calls.append(call(member(part, "tool_name", str), part.get("args"), identifier(part, "tool_call_id")))
        else:
            raise ValueError(f"a part of kind {kind}; only text, thoughts and tools can be read")
    return [_said("assistant", texts, calls, list(filter(None, thoughts)))]


def _pydantic_request(part: Chat) -> Iterator[Chat]:
    kind, content = part.get("part_kind"), part.get("content")
    if kind in ("system-prompt", "user-prompt"):
        if isinstance(content, list):
            content = [
                {"type": "text", "text": item} if isinstance(item, str) else {"type": "image"} for item in content
            ]
        yield {"role": kind.partition("-")[0], "content": content}
    elif kind == "tool-return" or (kind == "retry-prompt" and part.get("tool_name")):
        yield _answered(identifier(part, "tool_call_id"), content)
    elif kind == "retry-prompt":
        yield {"role": "user", "content": shown(content)}
    else:
        raise ValueError(f"a part of kind {kind}")


# --- Goose --------------------------------------------------------------------------------------------------------

_GOOSE = ("toolRequest", "toolResponse", "frontendToolRequest", "toolConfirmationRequest")


def _is_goose(row: Chat) -> bool:
    return (
        isinstance(row.get("created"), int)
        and isinstance(row.get("content"), list)
        and isinstance(row.get("role"), str)
    )


def _goose(row: Chat) -> list[Chat]:
    texts: list[str] = []
    calls: list[Chat] = []
    results: list[Chat] = []
    thoughts: list[str] = []
    for part in each("content", row["content"], as_object):
        kind = part.get("type")
        if kind == "text":
            texts.append(member(part, "text", str))
        elif kind == "thinking":
            thoughts.append(member(part, "thinking", str))
        elif kind == "toolRequest":
            made = member(member(part, "toolCall", dict), "value", dict)
            calls.append(call(member(made, "name", str), made.get("arguments"), identifier(part, "id")))
        elif kind == "toolResponse":
            seen = _goose_result(member(part, "toolResult", dict))
            results.append({"role": "tool", "tool_call_id": identifier(part, "id"), "content": seen})
        elif kind not in _GOOSE:
            raise ValueError(f"a part of type {kind}; only text and tools can be read")
    return results if results and not texts else [*results, _said(row["role"], texts, calls, thoughts)]


def _goose_result(result: Chat) -> str | list[Chat]:
    value = result.get("value", result.get("error"))
    if isinstance(value, dict) and isinstance(value.get("content"), list):
        value = value["content"]
    parts = value if isinstance(value, list) else [{"text": shown(value)}]
    if any(isinstance(part, dict) and part.get("type") == "image" for part in parts):
        return with_pictures(parts)
    return "\n".join(shown(part.get("text", part)) if isinstance(part, dict) else shown(part) for part in parts)


# --- Mistral's conversations --------------------------------------------------------------------------------------


def _is_mistral_entry(row: Chat) -> bool:
    return row.get("type") in ("message.input", "message.output", "function.call", "function.result", "tool.execution")


def _mistral(row: Chat) -> list[Chat]:
    kind = row["type"]
    if kind == "function.call":
        made = call(member(row, "name", str), row.get("arguments"), identifier(row, "tool_call_id"))
        return [_said("assistant", [], [made])]
    if kind == "function.result":
        return [_answered(identifier(row, "tool_call_id"), row.get("result"))]
    if kind == "tool.execution":
        raise ValueError("a tool that the provider ran itself; what it returned is not logged")
    role = "assistant" if kind == "message.output" else optional(row, "role", str) or "user"
    return [{"role": role, "content": row.get("content")}]


# --- OpenAI's threads ---------------------------------------------------------------------------------------------


def _is_thread_message(row: Chat) -> bool:
    return row.get("object") == "thread.message"


def _thread(row: Chat) -> list[Chat]:
    parts = []
    for part in each("content", member(row, "content", list), as_object):
        text = part.get("text")
        parts.append({"type": "text", "text": text["value"]} if isinstance(text, dict) and "value" in text else part)
    parts += [{"type": "file"}] * len(optional(row, "attachments", list) or [])
    return [{"role": member(row, "role", str), "content": parts}]


DIALECTS = (
    Dialect("AutoGen", _is_autogen, _autogen, speaker="source"),
    Dialect("Semantic Kernel", _is_semantic_kernel, _semantic_kernel, speaker="name"),
    Dialect("Haystack", _is_haystack, _haystack, speaker="name"),
    Dialect("LlamaIndex", _is_llama_index, _llama_index),
    Dialect("Pydantic AI", _is_pydantic_ai, _pydantic_ai),
    Dialect("Goose", _is_goose, _goose),
    Dialect("Mistral", _is_mistral_entry, _mistral, is_in_pieces=True),
    Dialect("OpenAI threads", _is_thread_message, _thread, newest_first="created_at"),
)
