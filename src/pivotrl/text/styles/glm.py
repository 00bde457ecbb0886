"""``<tool_call>name<arg_key>key</arg_key><arg_value>value</arg_value></tool_call>``: GLM 4.5 and later.

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
_NAME = re.compile(r"\s*([^<>\s]+)")
_ARGUMENT = re.compile(r"\s*<arg_key>([^<>]+)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)


def parse(text: str, tools: Sequence[Tool]) -> Action:
    beside, calls = calls_after(text, _OPEN, lambda position: _call(text, position, tools))
    return action_of(beside, calls, (_OPEN, _CLOSE, "<arg_key>", "<arg_value>"))


def _call(text: str, position: int, tools: Sequence[Tool]) -> tuple[list[ToolCall], int]:
    name = _NAME.match(text, position)
    if name is None:
        raise Unparsable("tool_call_has_no_name" if _CLOSE in text[position:] else "tool_call_not_closed")
    arguments, position = bare_arguments(text, name.end(), _ARGUMENT, tools, name[1])
    end = skip_blanks(text, position)
    if not text.startswith(_CLOSE, end):
        raise Unparsable("tool_call_is_malformed" if _CLOSE in text[end:] else "tool_call_not_closed")
    return [ToolCall(name=name[1], arguments=arguments)], end + len(_CLOSE)


def write(action: Action, tools: Sequence[Tool]) -> str:
    parts = [action.content] if action.content else []
    for call in action.tool_calls:
        arguments = "".join(
            f"<arg_key>{key}</arg_key>\n<arg_value>{bare_value(value)}</arg_value>\n"
            for key, value in json.loads(call.arguments).items()
        )
        parts.append(f"{_OPEN}{call.name}\n{arguments}{_CLOSE}")
    return "\n".join(parts)
