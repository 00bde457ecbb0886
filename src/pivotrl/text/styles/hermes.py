"""``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``: Hermes, Qwen 2.5 and 3, and our own ChatML."""

from __future__ import annotations

from collections.abc import Sequence

from pivotrl.records import Action, Tool
from pivotrl.text.tool_call_syntax import Unparsable, action_of, json_call, read_call, skip_blanks

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


def parse(text: str, tools: Sequence[Tool]) -> Action:
    calls, beside = [], ""
    before, mark, rest = text.partition(_OPEN)
    while mark:
        beside += before
        if _CLOSE not in rest:
            raise Unparsable("tool_call_not_closed")
        call, end = read_call(rest, skip_blanks(rest, 0), "arguments")
        end = skip_blanks(rest, end)
        if not rest.startswith(_CLOSE, end):
            raise Unparsable("tool_call_not_closed" if _CLOSE not in rest[end:] else "tool_call_is_not_json")
        calls.append(call)
        after = rest[end + len(_CLOSE) :]
        if _last_line(before).startswith("```") and after.lstrip().startswith("```"):
            raise Unparsable("tool_call_in_code_fence")  # shown, not made
        before, mark, rest = after.partition(_OPEN)
    return action_of(beside + before, calls, (_OPEN, _CLOSE))


def _last_line(text: str) -> str:
    return text.rstrip().rpartition("\n")[2].lstrip()


def write(action: Action, tools: Sequence[Tool]) -> str:
    blocks = [f"{_OPEN}\n{json_call(call, 'arguments')}\n{_CLOSE}" for call in action.tool_calls]
    return "\n".join([action.content, *blocks] if action.content else blocks)
