"""Channels of messages, each with a header: gpt-oss. Thoughts are the messages of the channel ``analysis``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pivotrl.records import Action, Tool, ToolCall
from pivotrl.text.tool_call_syntax import Unparsable, action_of, read_json, single_call, skip_blanks

_MESSAGE, _NEXT = "<|message|>", "<|end|><|start|>assistant"
_CHANNEL = re.compile(r"<\|channel\|>(\w+)")
_RECIPIENT = re.compile(r"\bto=(?:functions\.)?([\w.-]+)")
_MARKS = (_MESSAGE, "<|channel|>", "<|start|>", "<|end|>", "<|constrain|>")


def parse(text: str, tools: Sequence[Tool]) -> Action:
    beside, calls, position = [], list[ToolCall](), 0
    while position < len(text):
        start = text.find(_MESSAGE, position)
        channel = _CHANNEL.search(text, position, max(start, position))
        if start < 0 or channel is None:
            raise Unparsable("message_has_no_header")
        recipient = _RECIPIENT.search(text, position, start)
        body = start + len(_MESSAGE)
        if recipient is not None:
            _, end = read_json(text, skip_blanks(text, body))
            calls.append(ToolCall(name=recipient[1], arguments=text[body:end].strip()))
            if skip_blanks(text, end) < len(text):
                raise Unparsable("text_after_tool_call")
            break
        end = text.find(_NEXT, body)
        if channel[1] == "analysis":
            if end < 0:
                raise Unparsable("thought_not_closed")
        else:
            beside.append(text[body : end if end >= 0 else len(text)])
        position = end + len(_NEXT) if end >= 0 else len(text)
    return action_of("\n".join(beside), calls, _MARKS)


def write(action: Action, tools: Sequence[Tool]) -> str:
    call = single_call(action, "harmony")
    if call is None:
        return f"<|channel|>final{_MESSAGE}{action.content}" if action.content else ""
    before = f"<|channel|>commentary{_MESSAGE}{action.content}{_NEXT}" if action.content else ""
    return f"{before} to=functions.{call.name}<|channel|>commentary json{_MESSAGE}{call.arguments}"
