"""Tool calls that an agent wrote as text, and results that it saw as user messages.

Five notations: ``<function=name><parameter=key>value</parameter></function>``, alone (SWE-smith, SWE-Gym, OpenHands)
or inside ``<tool_call>`` (Qwen3-Coder, Nemotron 3); ``<invoke name=...><parameter name=...>`` (Anthropic); JSON inside
``<tool_call>`` (Hermes, Qwen); a name with ``<arg_key>`` and ``<arg_value>`` inside ``<tool_call>`` (GLM); and Python
(:mod:`pivotrl.reading.python_calls`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pivotrl.reading.chat_messages import arguments_text
from pivotrl.reading.fields import as_object, member
from pivotrl.reading.python_calls import python_calls
from pivotrl.reading.text_tools import literal, tools_in_text
from pivotrl.records import Loss, Message, Tool, ToolCall
from pivotrl.text.bare_values import bare_arguments
from pivotrl.text.tool_call_syntax import Unparsable, read_json

_MARKS = ("<function=", "<invoke name=", "<tool_call>")
_XML = re.compile(r"(?:<tool_call>\s*)?<function=([^>\n]+)>")
_XML_ARGUMENT = re.compile(r"\s*<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_XML_END = re.compile(r"\s*(?:</function>(?:\s*</tool_call>)?|\Z)")
"""A stop word may have cut the end off."""
_INVOKE = re.compile(r"(?:<(?:antml:)?function_calls>\s*)?<(?:antml:)?invoke name=\"([^\"\n]+)\">")
_INVOKE_ARGUMENT = re.compile(
    r"\s*<(?:antml:)?parameter name=\"([^\"\n]+)\"[^>\n]*>(.*?)</(?:antml:)?parameter>", re.DOTALL
)
_INVOKE_END = re.compile(r"\s*(?:</(?:antml:)?invoke>(?:\s*</(?:antml:)?function_calls>)?|\Z)")
_GLM = re.compile(r"<tool_call>\s*([^<>{}\[\]\s]+)(?=\s*(?:<arg_key>|</tool_call>))")
_GLM_BARE = re.compile(r"<tool_call>\s*([^<>{}\[\]\s]+)\s*</tool_call>")
_WORD = re.compile(r"\s*[A-Za-z_][\w.:-]*\s*\Z")
_GLM_ARGUMENT = re.compile(r"\s*<arg_key>([^<>]+)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)
_GLM_END = re.compile(r"\s*(?:</tool_call>|\Z)")
_NOTATIONS = (
    (_XML, _XML_ARGUMENT, _XML_END),
    (_INVOKE, _INVOKE_ARGUMENT, _INVOKE_END),
    (_GLM, _GLM_ARGUMENT, _GLM_END),
)
"""(beginning with the name, argument, end) of calls whose arguments are bare text."""
_PYTHON = re.compile(r"\[\s*[A-Za-z_][\w. -]*\(.*\)\s*\]\s*\Z", re.DOTALL)
_BEGINNINGS = ("<", "```", "Action", "[TOOL_CALLS]")
_ACTIONS = re.compile(
    r"<execute_\w+>|<function_call>|<tool_use>|<\|python_tag\|>|<\|?tool_calls?(?:_begin)?\|?>|\[TOOL_CALLS\]|<tool_code>|<code>$"
    r"|^```(?:bash|sh|shell|tool_code|tool_call|python)\s*$|^Action(?: Input)?:",
    re.MULTILINE,
)
"""What OpenHands' older agents, ReAct, Llama, Mistral, Gemma and agents at a shell write."""
_HERMES = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_WRAPPED = re.compile(
    r"\A\s*<(tool_response|function_results?|tool_result|observation)>\n?(.*?)\n?</\1>\s*\Z", re.DOTALL
)
_HEADED = re.compile(
    r"\A\s*(?:observation|execution result of \[[^\]\n]*\]|tool result|\[tool result\])(?::[ \t]*\n?|\n)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class TextCalls:
    """A conversation in which calls in text became calls, and what the user said right after them their results."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    excluded: dict[int, str]
    losses: tuple[Loss, ...]


def holds_call(message: Message) -> bool:
    """Whether an assistant's text has the mark of a call."""
    is_said = message.role == "assistant" and not message.tool_calls and message.content
    return bool(is_said) and bears_call(message.content or "")


def bears_call(text: str) -> bool:
    return ("<" in text and any(mark in text for mark in _MARKS)) or _is_python(text)


def _is_python(text: str) -> bool:
    return text.startswith("[") and _PYTHON.match(text) is not None


def acts_in_text(message: Message) -> bool:
    """Whether an assistant's text holds an action in a notation that stays text."""
    text = message.content
    if message.role != "assistant" or message.tool_calls or not text:
        return False
    return any(begin in text for begin in _BEGINNINGS) and _ACTIONS.search(text) is not None


def may_act(turns: Sequence[Message]) -> bool:
    """A quick test that gives most conversations a fast path: whether a turn's text could hold an action, or a
    thought."""
    text = "\n".join([message.content for message in turns if message.content])
    return "<" in text or "[" in text or "`" in text or "◁" in text or "Action" in text


def with_calls(messages: Sequence[Message], tools: tuple[Tool, ...]) -> TextCalls | None:
    """The conversation with its calls; None when no text holds one.

    A text that bears the mark of a call and cannot be understood stays, and its turn is excluded.
    """
    if not any(map(holds_call, messages)):
        return None
    tools = tools or tools_in_text(messages)
    made: list[Message] = []
    excluded: dict[int, str] = {}
    rebuilt: set[int] = set()
    for index, message in enumerate(messages):
        if holds_call(message):
            try:
                content, calls = calls_in(message.content or "", tools)
            except ValueError:
                excluded[index] = "unparsable_action"
            else:
                message = message.model_copy(update={"content": content, "tool_calls": calls})
                rebuilt |= {index} if calls else set()
        elif message.role == "user" and index - 1 in rebuilt:
            message = Message(role="tool", content=result_text(message.content or ""))
        made.append(message)
    if not rebuilt and not excluded:
        return None
    losses = (Loss(code="action_rebuilt", detail="calls were written as text"),) if rebuilt else ()
    return TextCalls(tuple(made), tools, excluded, losses)


def calls_in(text: str, tools: Sequence[Tool]) -> tuple[str | None, tuple[ToolCall, ...]]:
    """(the text beside the calls, the calls that it holds).

    Raises:
        ValueError: a call cannot be understood.
    """
    if _is_python(text):
        return (None, found) if (found := python_calls(text, tools)) else (text, ())
    known = {tool.name for tool in tools}
    if any(name not in known for name in _GLM_BARE.findall(text)):
        raise ValueError("a word alone is a call only of a declared tool")
    calls: list[ToolCall] = []
    for begin, argument, end in _NOTATIONS:
        text = _taken(text, begin, calls, _reader(argument, end, tools))
    for payload in _HERMES.findall(text):
        calls += named_calls(payload)
    text = _HERMES.sub("", text)
    if any(mark in text for mark in (*_MARKS, "</function>", "</tool_call>", "<arg_key>")):
        raise ValueError("a call is left that cannot be understood")
    return text.strip() or None, tuple(calls)


def is_tagged(payload: str) -> bool:
    """Whether what stands between ``<tool_call>`` tags is not JSON: Qwen3-Coder's XML, or GLM's name and arguments."""
    return "<function=" in payload or "<arg_key>" in payload or _WORD.match(payload) is not None


def result_text(text: str) -> str:
    """A tool's answer, without the text that the harness added."""
    if found := _WRAPPED.match(text):
        return found[2]
    return _HEADED.sub("", text, count=1)


_Read = Callable[[str, re.Match[str]], tuple[ToolCall, int]]


def _taken(text: str, begin: re.Pattern[str], calls: list[ToolCall], read: _Read) -> str:
    beside, position = "", 0
    while found := begin.search(text, position):
        beside += text[position : found.start()]
        call, position = read(text, found)
        calls.append(call)
    return beside + text[position:]


def _reader(argument: re.Pattern[str], end: re.Pattern[str], tools: Sequence[Tool]) -> _Read:
    def read(text: str, found: re.Match[str]) -> tuple[ToolCall, int]:
        try:
            if text[found.end() :].lstrip().startswith("{"):  # as Llama's prompts have it
                start = text.index("{", found.end())
                arguments, position = text[start : read_json(text, start)[1]], read_json(text, start)[1]
            else:
                arguments, position = bare_arguments(text, found.end(), argument, tools, found[1])
        except Unparsable as error:
            raise ValueError(str(error)) from error
        closing = end.match(text, position)
        if closing is None:
            raise ValueError("the call is not closed")
        return ToolCall(name=found[1], arguments=arguments), closing.end()

    return read


def named_calls(payload: Any) -> list[ToolCall]:
    """A call ``{name, arguments}`` or a list of such, as a value or as text.

    Raises:
        ValueError: it is something else.
    """
    value = literal(payload) if isinstance(payload, str) else payload
    calls = []
    for item in value if isinstance(value, list) else [value]:
        call = as_object(item)
        key = next((key for key in ("arguments", "parameters") if key in call), None)
        if key is None:
            raise ValueError("the call has no arguments")
        calls.append(ToolCall(name=member(call, "name", str), arguments=arguments_text(call[key])))
    return calls
