"""``<|tool_call>call:name{key:<|"|>text<|"|>,other:[1,true]}<tool_call|>``: Gemma 4.

Keys are bare, and strings stand between marks of their own. The chat template puts the keys in alphabetical order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from pivotrl.records import Action, Tool, ToolCall
from pivotrl.text.tool_call_syntax import Unparsable, action_of, calls_after, read_json

_OPEN, _CLOSE, _QUOTE = "<|tool_call>", "<tool_call|>", '<|"|>'
THOUGHTS = (("<|channel>thought", "<channel|>"),)
_NAME = re.compile(r"call:([^{}<>\s]+)\{")
_KEY = re.compile(r'(?:<\|"\|>)?([^{}\[\],:<>]+)(?:<\|"\|>)?:')
_WORD = re.compile(r"(?:true|false|None|null)\b")
_WORDS = {"true": True, "false": False}


def parse(text: str, tools: Sequence[Tool]) -> Action:
    beside, calls = calls_after(text, _OPEN, lambda position: _call(text, position))
    return action_of(beside, calls, (_OPEN, _CLOSE, _QUOTE))


def _call(text: str, position: int) -> tuple[list[ToolCall], int]:
    if text.find(_CLOSE, position) < 0:
        raise Unparsable("tool_call_not_closed")
    name = _NAME.match(text, position)
    if name is None:
        raise Unparsable("tool_call_has_no_name")
    arguments, position = _members(text, name.end())
    if not text.startswith(_CLOSE, position):
        raise Unparsable("tool_call_is_malformed")
    return [ToolCall(name=name[1], arguments=json.dumps(arguments, ensure_ascii=False))], position + len(_CLOSE)


def _value(text: str, position: int) -> tuple[Any, int]:
    if text.startswith(_QUOTE, position):
        start = position + len(_QUOTE)
        end = text.find(_QUOTE, start)
        if end < 0:
            raise Unparsable("tool_call_is_malformed")
        return text[start:end], end + len(_QUOTE)
    if text.startswith("{", position):
        return _members(text, position + 1)
    if text.startswith("[", position):
        return _items(text, position + 1)
    if word := _WORD.match(text, position):
        return _WORDS.get(word[0]), word.end()
    return read_json(text, position)


def _members(text: str, position: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while not text.startswith("}", position):
        key = _KEY.match(text, position)
        if key is None:
            raise Unparsable("tool_call_is_malformed")
        if key[1] in found:
            raise Unparsable("argument_occurs_twice")
        found[key[1]], position = _value(text, key.end())
        position = _next(text, position, "}")
    return found, position + 1


def _items(text: str, position: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    while not text.startswith("]", position):
        item, position = _value(text, position)
        found.append(item)
        position = _next(text, position, "]")
    return found, position + 1


def _next(text: str, position: int, close: str) -> int:
    """Where the next one begins, behind the comma; or the closing mark."""
    if text.startswith(",", position):
        return position + 1
    if not text.startswith(close, position):
        raise Unparsable("tool_call_is_malformed")
    return position


# --- writing ------------------------------------------------------------------------------------------------------


def write(action: Action, tools: Sequence[Tool]) -> str:
    calls = (f"{_OPEN}call:{call.name}{_written(json.loads(call.arguments))}{_CLOSE}" for call in action.tool_calls)
    return "".join(calls) + (action.content or "")


def _written(value: Any) -> str:
    if isinstance(value, str):
        return f"{_QUOTE}{value}{_QUOTE}"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    return json.dumps(value)
