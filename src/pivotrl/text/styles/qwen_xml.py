"""``<tool_call><function=name><parameter=key>value</parameter></function></tool_call>``: Qwen3-Coder, Qwen 3.5.

Values are bare text, so only the tool's schema says which of them are numbers, lists or objects. Without a schema
every value is text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from pivotrl.records import Action, Tool, ToolCall
from pivotrl.text.bare_values import bare_arguments, bare_value
from pivotrl.text.tool_call_syntax import Unparsable, action_of, calls_after, skip_blanks

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_FUNCTION = re.compile(r"\s*<function=([^>\n]+)>")
_PARAMETER = re.compile(r"\s*<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_END = re.compile(r"\s*</function>\s*</tool_call>")


def parse(text: str, tools: Sequence[Tool]) -> Action:
    beside, calls = calls_after(text, _OPEN, lambda position: _call(text, position, tools))
    return action_of(beside, calls, (_OPEN, _CLOSE, "<function=", "</function>"))


def _call(text: str, position: int, tools: Sequence[Tool]) -> tuple[list[ToolCall], int]:
    function = _FUNCTION.match(text, position)
    if function is None:
        raise Unparsable("tool_call_has_no_name" if _CLOSE in text[position:] else "tool_call_not_closed")
    arguments, position = bare_arguments(text, function.end(), _PARAMETER, tools, function[1])
    end = _END.match(text, position)
    if end is None:
        closed = _CLOSE in text[skip_blanks(text, position) :]
        raise Unparsable("tool_call_is_malformed" if closed else "tool_call_not_closed")
    return [ToolCall(name=function[1], arguments=arguments)], end.end()


def write(action: Action, tools: Sequence[Tool]) -> str:
    parts = [action.content] if action.content else []
    for call in action.tool_calls:
        arguments = "".join(
            f"<parameter={key}>\n{bare_value(value)}\n</parameter>\n"
            for key, value in json.loads(call.arguments).items()
        )
        parts.append(f"{_OPEN}\n<function={call.name}>\n{arguments}</function>\n{_CLOSE}")
    return "\n".join(parts)
