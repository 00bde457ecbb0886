"""``<tool_call><function=name><parameter=key>value</parameter></function></tool_call>``: Qwen3-Coder, Qwen 3.5.

Values are bare text, so only the tool's schema says which of them are numbers, lists or objects. Without a schema
every value is text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from pivotrl.call_text import Unparsable, action_of, bare_value, property_schemas, skip_blanks, typed_value
from pivotrl.records import Action, Tool, ToolCall

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_FUNCTION = re.compile(r"\s*<function=([^>\n]+)>")
_PARAMETER = re.compile(r"\s*<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_END = re.compile(r"\s*</function>\s*</tool_call>")


def parse(text: str, tools: Sequence[Tool]) -> Action:
    calls, beside, position = [], "", 0
    while (start := text.find(_OPEN, position)) >= 0:
        beside += text[position:start]
        call, position = _call(text, start + len(_OPEN), tools)
        calls.append(call)
    return action_of(beside + text[position:], calls, (_OPEN, _CLOSE, "<function=", "</function>"))


def _call(text: str, position: int, tools: Sequence[Tool]) -> tuple[ToolCall, int]:
    function = _FUNCTION.match(text, position)
    if function is None:
        raise Unparsable("tool_call_has_no_name" if _CLOSE in text[position:] else "tool_call_not_closed")
    name, position = function[1], function.end()
    schemas = property_schemas(tools, name)
    arguments = {}
    while parameter := _PARAMETER.match(text, position):
        if parameter[1] in arguments:
            raise Unparsable("argument_occurs_twice")
        arguments[parameter[1]] = typed_value(parameter[2], schemas.get(parameter[1]))
        position = parameter.end()
    end = _END.match(text, position)
    if end is None:
        closed = _CLOSE in text[skip_blanks(text, position) :]
        raise Unparsable("tool_call_is_malformed" if closed else "tool_call_not_closed")
    return ToolCall(name=name, arguments=json.dumps(arguments, ensure_ascii=False)), end.end()


def write(action: Action, tools: Sequence[Tool]) -> str:
    parts = [action.content] if action.content else []
    for call in action.tool_calls:
        arguments = "".join(
            f"<parameter={key}>\n{bare_value(value)}\n</parameter>\n"
            for key, value in json.loads(call.arguments).items()
        )
        parts.append(f"{_OPEN}\n<function={call.name}>\n{arguments}</function>\n{_CLOSE}")
    return "\n".join(parts)
