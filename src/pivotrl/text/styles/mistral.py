"""``[TOOL_CALLS][{"name": ..., "arguments": {...}}]``: Mistral up to tokenizer version 7.

The newer form, ``[TOOL_CALLS]name[ARGS]{...}``, is read as well; :mod:`pivotrl.text.styles.mistral_args` writes it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pivotrl.records import Action, Tool, ToolCall
from pivotrl.text.tool_call_syntax import Unparsable, action_of, json_call, read_call, read_json, skip_blanks

MARK, ARGUMENTS = "[TOOL_CALLS]", "[ARGS]"
THOUGHTS = (("[THINK]", "[/THINK]"),)
_HEADER = re.compile(r"\s*([\w.-]+)\s*(?:\[CALL_ID\][\w-]*)?\s*\[ARGS\]\s*")


def parse(text: str, tools: Sequence[Tool]) -> Action:
    beside, mark, written = text.partition(MARK)
    calls: list[ToolCall] = []
    if mark:
        start = skip_blanks(written, 0)
        calls = _listed(written, start + 1) if written.startswith("[", start) else _named(written)
    return action_of(beside, calls, (MARK,))


def _listed(written: str, position: int) -> list[ToolCall]:
    calls = []
    while True:
        call, end = read_call(written, skip_blanks(written, position), "arguments")
        calls.append(call)
        end = skip_blanks(written, end)
        if written.startswith(",", end):
            position = end + 1
        elif written[end:].rstrip() == "]":
            return calls
        else:
            raise Unparsable("text_after_tool_call" if written.startswith("]", end) else "tool_call_not_closed")


def _named(written: str) -> list[ToolCall]:
    calls, position = [], 0
    while True:
        header = _HEADER.match(written, position)
        if header is None:
            raise Unparsable("tool_call_has_no_name" if ARGUMENTS in written[position:] else "tool_call_not_closed")
        _, end = read_json(written, header.end())
        calls.append(ToolCall(name=header[1], arguments=written[header.end() : end]))
        position = skip_blanks(written, end)
        if position == len(written):
            return calls
        if not written.startswith(MARK, position):
            raise Unparsable("text_after_tool_call")
        position += len(MARK)


def write(action: Action, tools: Sequence[Tool]) -> str:
    calls = ", ".join(json_call(call, "arguments") for call in action.tool_calls)
    return (action.content or "") + (f"{MARK}[{calls}]" if calls else "")
