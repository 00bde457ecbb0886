"""A completion that is JSON and nothing else: ``{"name": ..., "arguments": {...}}``, or a list of such objects.

Any other JSON is a message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pivotrl.records import Action, Tool
from pivotrl.text.tool_call_syntax import (
    Unparsable,
    action_of,
    is_bare_call,
    is_json,
    json_call,
    read_call,
    skip_blanks,
)

_LISTED = re.compile(r"\s*\[\s*[{\]]")
_LEAKED = re.compile(r'\{\s*"name"\s*:\s*"[^"]*"\s*,\s*"arguments"')


def parse(text: str, tools: Sequence[Tool]) -> Action:
    start = skip_blanks(text, 0)
    listed = _LISTED.match(text)
    in_json = listed or text.startswith("{", start)
    if not in_json or not is_bare_call(text, start, tools):
        if _LEAKED.search(text) and not is_json(text):
            raise Unparsable("tool_call_inside_text")
        return action_of(text, ())
    calls, position = [], start + (1 if listed else 0)
    while True:
        call, position = read_call(text, skip_blanks(text, position), "arguments")
        calls.append(call)
        position = skip_blanks(text, position)
        if not (listed and text.startswith(",", position)):
            break
        position += 1
    rest = text[position:].rstrip()
    if rest != ("]" if listed else ""):
        raise Unparsable("text_after_tool_call" if rest else "tool_call_not_closed")
    return action_of("", calls)


def write(action: Action, tools: Sequence[Tool]) -> str:
    if action.content and action.tool_calls:
        raise ValueError("plain_json cannot write text beside a tool call")
    calls = [json_call(call, "arguments") for call in action.tool_calls]
    return f"[{', '.join(calls)}]" if len(calls) > 1 else "".join(calls) or action.content or ""
