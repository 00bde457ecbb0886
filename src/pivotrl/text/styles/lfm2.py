"""``<|tool_call_start|>[name(key='text', other=[1, true])]<|tool_call_end|>``: LFM2 and LFM2.5, calls as in Python.

Values are Python's or JSON's: LFM2 writes strings in single quotes, what is inside objects as JSON, and lists in one of
the two ways.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from pivotrl.records import Action, Tool, ToolCall
from pivotrl.text.tool_call_syntax import Unparsable, action_of, calls_after, read_json, skip_blanks

_OPEN, _CLOSE = "<|tool_call_start|>", "<|tool_call_end|>"
_NAME = re.compile(r"\s*([\w.-]+)\(\s*")
_KEY = re.compile(r"\s*([\w.-]+)\s*=\s*")
_WORD = re.compile(r"(?:True|true|False|false|None|null)\b")
_WORDS = {"true": True, "false": False, "none": None, "null": None}
_STRING = re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL)
_ESCAPE = re.compile(r"\\([\\'\"nrt])")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def parse(text: str, tools: Sequence[Tool]) -> Action:
    beside, calls = calls_after(text, _OPEN, lambda position: _calls(text, position))
    return action_of(beside, calls, (_OPEN, _CLOSE))


def _calls(text: str, position: int) -> tuple[list[ToolCall], int]:
    end = text.find(_CLOSE, position)
    if end < 0:
        raise Unparsable("tool_call_not_closed")
    calls, position = _listed(text, _after(text, position, "["), "]", _call)
    return calls, _after(text, position, _CLOSE)


def _call(text: str, position: int) -> tuple[ToolCall, int]:
    name = _NAME.match(text, position)
    if name is None:
        raise Unparsable("tool_call_has_no_name")
    arguments, position = _listed(text, name.end(), ")", _argument)
    return ToolCall(name=name[1], arguments=_object(arguments)), position


def _argument(text: str, position: int) -> tuple[tuple[str, Any], int]:
    key = _KEY.match(text, position)
    if key is None:
        raise Unparsable("tool_call_is_malformed")
    value, position = _value(text, key.end())
    return (key[1], value), position


# --- values -------------------------------------------------------------------------------------------------------


def _value(text: str, position: int) -> tuple[Any, int]:
    position = skip_blanks(text, position)
    if text.startswith("[", position):
        return _listed(text, position + 1, "]", _value)
    if text.startswith("{", position):
        pairs, position = _listed(text, position + 1, "}", _member)
        return json.loads(_object(pairs)), position
    if string := _STRING.match(text, position):
        return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[1]), string[1]), string.end()
    if word := _WORD.match(text, position):
        return _WORDS[word[0].lower()], word.end()
    return read_json(text, position)


def _member(text: str, position: int) -> tuple[tuple[str, Any], int]:
    key, position = _value(text, position)
    if not isinstance(key, str):
        raise Unparsable("tool_call_is_malformed")
    value, position = _value(text, _after(text, position, ":"))
    return (key, value), position


def _listed(text: str, position: int, close: str, read: Any) -> tuple[list[Any], int]:
    """Things with commas between them, and where the list ends."""
    found: list[Any] = []
    position = skip_blanks(text, position)
    while not text.startswith(close, position):
        item, position = read(text, position)
        found.append(item)
        position = skip_blanks(text, position)
        if not text.startswith(close, position):
            position = skip_blanks(text, _after(text, position, ","))
    return found, position + len(close)


def _after(text: str, position: int, mark: str) -> int:
    position = skip_blanks(text, position)
    if not text.startswith(mark, position):
        raise Unparsable("tool_call_is_malformed")
    return position + len(mark)


def _object(pairs: Sequence[tuple[str, Any]]) -> str:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Unparsable("argument_occurs_twice")
    return json.dumps(found, ensure_ascii=False)


# --- writing ------------------------------------------------------------------------------------------------------


def write(action: Action, tools: Sequence[Tool]) -> str:
    calls = ", ".join(
        f"{call.name}({', '.join(f'{key}={_written(value)}' for key, value in json.loads(call.arguments).items())})"
        for call in action.tool_calls
    )
    return (action.content or "") + (f"{_OPEN}[{calls}]{_CLOSE}" if calls else "")


def _written(value: Any) -> str:
    if isinstance(value, str):
        for plain, escaped in (("\\", "\\\\"), ("'", "\\'"), ("\n", "\\n"), ("\r", "\\r")):
            value = value.replace(plain, escaped)
        return f"'{value}'"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else repr(value)
