"""``<｜tool▁call▁begin｜>function<｜tool▁sep｜>name``, then the arguments in a JSON block: DeepSeek V3 and R1.

The form of V3.1, ``<｜tool▁call▁begin｜>name<｜tool▁sep｜>{...}``, is read as well.
"""

# ruff: noqa: RUF001 - these are DeepSeek's own characters

from __future__ import annotations

import re
from collections.abc import Sequence

from pivotrl.records import Action, Tool, ToolCall
from pivotrl.text.tool_call_syntax import Unparsable, action_of, read_json, skip_blanks

_BEGIN, _END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_CALL, _CALL_END, _BETWEEN = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"
_HEADER = re.compile(rf"\s*{_CALL}(?:function{_BETWEEN}([^\n<｜]+)\n```json\n|([^\n<｜]+){_BETWEEN})\s*")


def parse(text: str, tools: Sequence[Tool]) -> Action:
    beside, mark, written = text.partition(_BEGIN)
    calls: list[ToolCall] = []
    position = 0
    while mark and not written.startswith(_END, skip_blanks(written, position)):
        call, position = _one(written, position)
        calls.append(call)
    if mark and written[skip_blanks(written, position) + len(_END) :].strip():
        raise Unparsable("text_after_tool_call")
    return action_of(beside, calls, (_BEGIN, _END, _CALL, _CALL_END))


def _one(written: str, position: int) -> tuple[ToolCall, int]:
    header = _HEADER.match(written, position)
    if header is None:
        raise Unparsable("tool_call_is_malformed" if _END in written[position:] else "tool_call_not_closed")
    _, end = read_json(written, header.end())
    arguments = written[header.end() : end]
    end = skip_blanks(written, end)
    if header[1]:
        end = skip_blanks(written, end + len("```")) if written.startswith("```", end) else end
    if not written.startswith(_CALL_END, end):
        raise Unparsable("tool_call_not_closed")
    return ToolCall(name=(header[1] or header[2]).strip(), arguments=arguments), end + len(_CALL_END)


def write(action: Action, tools: Sequence[Tool]) -> str:
    calls = "\n".join(
        f"{_CALL}function{_BETWEEN}{call.name}\n```json\n{call.arguments}\n```{_CALL_END}" for call in action.tool_calls
    )
    return (action.content or "") + (f"{_BEGIN}{calls}{_END}" if calls else "")
