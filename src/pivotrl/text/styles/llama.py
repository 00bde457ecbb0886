"""``{"name": ..., "parameters": {...}}``: Llama 3.1 and later; after text the call follows ``<|python_tag|>``.

Any other JSON object is a message.
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

_MARK = "<|python_tag|>"
_LEAKED = re.compile(r'\{\s*"name"\s*:\s*"[^"]*"\s*,\s*"(?:parameters|arguments)"')


def parse(text: str, tools: Sequence[Tool]) -> Action:
    start = skip_blanks(text, 0)
    in_json = text.startswith("{", start)
    beside, mark, written = ("", "", text) if in_json and is_bare_call(text, start, tools) else text.partition(_MARK)
    if not mark and not written:
        if _LEAKED.search(text) and not is_json(text):
            raise Unparsable("tool_call_inside_text")
        return action_of(text, (), (_MARK,))
    calls, position = [], skip_blanks(written, 0)
    while True:
        call, position = read_call(written, position, "parameters")
        calls.append(call)
        position = skip_blanks(written, position)
        if position == len(written):
            return action_of(beside, calls, (_MARK,))
        if written[position] != ";":
            raise Unparsable("text_after_tool_call")
        position = skip_blanks(written, position + 1)


def write(action: Action, tools: Sequence[Tool]) -> str:
    calls = "; ".join(json_call(call, "parameters") for call in action.tool_calls)
    if action.content and calls:
        return f"{action.content}{_MARK}{calls}"
    return calls or action.content or ""
