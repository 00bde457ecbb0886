"""Items of OpenAI's Responses API as chat messages.

The assistant's reasoning, text and calls between two inputs are one message, as NeMo Gym renders them. A hosted tool
(web search, code interpreter) acts out of sight: its item is a loss, and the turns from there on are excluded, because
they were decided on something that the log does not hold.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pivotrl.reading.chat_messages import arguments_text, chat_message, declared_tools, text_of, tool_call
from pivotrl.reading.fields import as_object, each, identifier, member, optional
from pivotrl.reading.turn_marks import is_context
from pivotrl.records import Loss, Message, Tool, ToolCall

_FREE_TEXT = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
"""Parameters of a custom tool, which takes one free text."""


@dataclass(frozen=True)
class Conversation:
    """Items read as messages, what was lost, and the assistant's turns that must not become candidates."""

    messages: tuple[Message, ...]
    losses: tuple[Loss, ...]
    excluded: dict[int, str]
    tools: tuple[Tool, ...]
    """Tools that are announced among the items, by an MCP server."""
    is_incomplete: bool = False
    """From here on, the agent has seen something that the log lacks."""


@dataclass(frozen=True)
class _Fragment:
    """An item, or half of one: a message, a part of the assistant's message, or only something that was lost."""

    role: str
    message: Message | None = None
    losses: tuple[Loss, ...] = ()
    tools: tuple[Tool, ...] = ()
    hides: bool = False
    """Later turns depend on something here that is not in the log."""
    is_cut: bool = False
    """The model reached its token limit within this item."""
    is_context: bool = False
    """The log marks it as not to be learned."""


def conversation(
    items: Sequence[Any], name: str = "input", *, instructions: str | None = None, before: Sequence[Message] = ()
) -> Conversation:
    """Items as messages.

    Args:
        name: of the list, for what is told about faults.
        instructions: the system message that goes first.
        before: messages that come first; positions count them, and nothing is merged into them.

    Raises:
        ValueError: an item is malformed; it is named, such as ``input[3]``.
    """
    fragments = [part for parts in each(name, items, _fragments) for part in parts]
    if instructions:
        fragments.insert(0, _Fragment("system", Message(role="system", content=instructions)))
    messages = list(before)
    losses: list[Loss] = []
    excluded: dict[int, str] = {}
    hidden = False
    for role, run in _runs(fragments, leading=not messages):
        made = _merged(role, [part.message for part in run if part.message is not None])
        place = len(messages) if made else None
        losses += [loss.model_copy(update={"message": place}) for part in run for loss in part.losses]
        hidden = hidden or any(part.hides for part in run)
        if role == "assistant" and made and (hidden or any(part.is_cut for part in run)):
            excluded[len(messages)] = "context_incomplete" if hidden else "truncated"
        elif role == "assistant" and made and any(part.is_context for part in run):
            excluded[len(messages)] = "context_only"
        messages += made
    announced = tuple(tool for part in fragments for tool in part.tools)
    return Conversation(tuple(messages), tuple(losses), excluded, announced, hidden)


def request_conversation(parameters: dict[str, Any]) -> Conversation:
    """What a request shows the model: its ``instructions``, then its ``input``, items or the user's text."""
    given = parameters.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else member(parameters, "input", list)
    return conversation(items, instructions=instructions_text(parameters))


def answered(asked: Conversation, response: dict[str, Any]) -> Conversation:
    """The conversation with the response's ``output`` after it; its turns are excluded if what they saw is not logged.

    Raises:
        ValueError: the output is malformed, or the model did nothing in it.
    """
    made = conversation(member(response, "output", list), "output", before=asked.messages)
    turns = [i for i in range(len(asked.messages), len(made.messages)) if made.messages[i].role == "assistant"]
    if not turns:
        raise ValueError("the response holds nothing that the model did")
    losses, excluded = [*asked.losses, *made.losses], {**asked.excluded, **made.excluded}
    if response.get("status") == "incomplete":
        excluded.setdefault(turns[-1], "truncated")
    if all(message.role == "system" for message in asked.messages):
        losses.append(Loss(code="input_not_logged"))
        excluded |= dict.fromkeys(turns, "context_incomplete")
    if asked.is_incomplete:
        excluded |= dict.fromkeys(turns, "context_incomplete")
    return Conversation(made.messages, tuple(losses), excluded, (*asked.tools, *made.tools))


def instructions_text(parameters: dict[str, Any]) -> str | None:
    """``instructions``: a text, or items that hold one."""
    value = parameters.get("instructions")
    if isinstance(value, list):
        return joined((message.content for message in conversation(value, "instructions").messages), "\n\n")
    return optional(parameters, "instructions", str)


def response_tools(value: Any) -> tuple[tuple[Tool, ...], tuple[Loss, ...]]:
    """(the functions and custom tools, a loss for each hosted tool)."""
    functions: list[Any] = []
    losses: list[Loss] = []
    for tool in each("tools", optional({"tools": value}, "tools", list) or (), as_object):
        if tool.get("type") in (None, "function"):
            functions.append(tool)
        elif tool["type"] == "custom":
            functions.append({**tool, "parameters": _FREE_TEXT})
        else:
            losses.append(Loss(code="unknown_item", detail=f"hosted tool {tool['type']}"))
    return declared_tools(functions), tuple(losses)


def joined(texts: Iterable[str | None], separator: str = "\n") -> str | None:
    """The texts that are not empty; None when all are."""
    return separator.join(text for text in texts if text) or None


# --- one item -----------------------------------------------------------------------------------------------------


def _fragments(item: Any) -> list[_Fragment]:
    row = as_object(item)
    kind = row.get("type") or "message"
    if kind == "message":
        return [_message(row)]
    if kind == "reasoning":
        return [_reasoning(row)]
    if kind == "function_call":
        return [_call(row, tool_call(row))]
    if kind == "custom_tool_call":
        arguments = arguments_text({"input": member(row, "input", str)})
        return [_call(row, ToolCall(name=member(row, "name", str), arguments=arguments, id=identifier(row, "call_id")))]
    if kind == "local_shell_call":
        arguments = arguments_text(member(row, "action", dict))
        return [_call(row, ToolCall(name="local_shell", arguments=arguments, id=identifier(row, "call_id", "id")))]
    if kind in ("function_call_output", "custom_tool_call_output"):
        return [_result(row, member(row, "call_id", str))]
    if kind == "local_shell_call_output":
        return [_result(row, identifier(row, "call_id", "id"))]
    if kind == "mcp_call":
        return _served(row)
    if kind == "mcp_list_tools":
        tools = [
            {**tool, "parameters": tool.get("input_schema")}
            for tool in each("tools", member(row, "tools", list), as_object)
        ]
        return [_Fragment("assistant", tools=declared_tools(tools))]
    code = "compaction" if kind == "compaction" else "unknown_item"
    return [_Fragment("assistant", losses=(Loss(code=code, detail=str(kind)),), hides=True)]


def _message(row: dict[str, Any]) -> _Fragment:
    losses: list[Loss] = []
    if isinstance(row.get("content"), list):
        row = {**row, "content": [_readable(part) for part in row["content"]]}
    message = chat_message(row, losses)
    return _Fragment(message.role, message, tuple(losses), is_cut=_is_cut(row), is_context=is_context(row))


def _readable(part: Any) -> Any:
    """A refusal is what the assistant said."""
    if isinstance(part, dict) and part.get("type") == "refusal":
        return {"type": "text", "text": part.get("refusal")}
    return part


def _reasoning(row: dict[str, Any]) -> _Fragment:
    """A thought; where the log has both the thought and its summary, the thought."""
    thought = text_of(row.get("content"), ("reasoning_text", "text")) or text_of(row.get("summary"), ("summary_text",))
    if thought:
        return _Fragment("assistant", Message(role="assistant", reasoning=thought))
    code = "reasoning_encrypted" if row.get("encrypted_content") else "reasoning_stripped"
    return _Fragment("assistant", losses=(Loss(code=code),))


def _call(row: dict[str, Any], call: ToolCall) -> _Fragment:
    made = Message(role="assistant", tool_calls=(call,))
    return _Fragment("assistant", made, is_cut=_is_cut(row), is_context=is_context(row))


def _result(row: dict[str, Any], call_id: str | None) -> _Fragment:
    losses: list[Loss] = []
    content = text_of(row.get("output"), losses=losses)
    return _Fragment("tool", Message(role="tool", content=content, tool_call_id=call_id), tuple(losses))


def _served(row: dict[str, Any]) -> list[_Fragment]:
    """A call that the provider made to an MCP server, with its result."""
    call = ToolCall(
        name=member(row, "name", str), arguments=arguments_text(row.get("arguments")), id=identifier(row, "id")
    )
    content = optional(row, "output", str)
    error = row.get("error")
    if content is None and error is not None:
        content = error if isinstance(error, str) else arguments_text(error)
    return [_call(row, call), _Fragment("tool", Message(role="tool", content=content, tool_call_id=call.id))]


def _is_cut(row: dict[str, Any]) -> bool:
    return row.get("status") == "incomplete"


# --- items to messages --------------------------------------------------------------------------------------------


def _runs(fragments: Iterable[_Fragment], leading: bool) -> Iterator[tuple[str, list[_Fragment]]]:
    """Fragments that make one message: neighbouring ones of the assistant's, and the system's that come first."""
    for position, (role, group) in enumerate(itertools.groupby(fragments, key=lambda fragment: fragment.role)):
        if role == "assistant" or (role == "system" and leading and position == 0):
            yield role, list(group)
        else:
            yield from ((role, [fragment]) for fragment in group)


def _merged(role: str, parts: Sequence[Message]) -> list[Message]:
    if role == "assistant" and parts:
        return [
            Message(
                role="assistant",
                content=joined(part.content for part in parts),
                reasoning=joined(part.reasoning for part in parts),
                tool_calls=tuple(call for part in parts for call in part.tool_calls),
            )
        ]
    if role == "system" and len(parts) > 1:
        return [Message(role="system", content=joined((part.content for part in parts), "\n\n"))]
    return list(parts)
