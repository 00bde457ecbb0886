"""JSON read strictly: no duplicate keys, no NaN, nothing out of range, nothing nested without end.

orjson reads the text; what it lets pass (repeated keys, integers that become floats) is noticed by counting, and such
a text goes to the slower standard parser, which says what is wrong.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import orjson

MAX_DEPTH = 100
"""Deepest nesting of arrays and objects that is accepted."""
_MAX_DIGITS = 308
"""Longest integer: any longer one may be beyond the range of a float."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]|-?[0-9][0-9.eE+-]*|-?Infinity|NaN')
_COLON = re.compile(r"\s*:")
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text, read strictly.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
        JSONDecodeError: a ValueError with reason, line and column: it is not JSON, or holds a duplicate key, NaN or
            Infinity, a number beyond the range of a float, half of a surrogate pair, or nesting deeper than
            ``MAX_DEPTH``.
    """
    try:
        data = text if isinstance(text, bytes) else text.encode()
        value = orjson.loads(data)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return _parse_slowly(text)
    return value if _is_plain(value, data) else _parse_slowly(text)


def parse_arguments(text: str) -> dict[str, Any]:
    """The arguments of a tool call.

    Raises:
        ValueError: the text is not strict JSON (:func:`parse_json`), or not an object.
    """
    value = parse_json(text)
    if not isinstance(value, dict):
        raise ValueError(f"not an object but {kind_of(value)}")
    return value


def call_arguments(text: str) -> dict[str, Any]:
    """:func:`parse_arguments` of a call as models write it: ``null`` in the place of no arguments is none."""
    return {} if text.strip(" \t\r\n") == "null" else parse_arguments(text)


def kind_of(value: Any) -> str:
    """The JSON type of a value; integers and floats are both numbers.

    Raises:
        ValueError: JSON has no such value.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):  # before int, which it is in Python
        return "boolean"
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return "number"
    for kind, name in ((str, "string"), (list, "array"), (dict, "object")):
        if isinstance(value, kind):
            return name
    raise ValueError(f"{value!r} is not a JSON value")


def _is_plain(value: Any, data: bytes) -> bool:
    """Whether the fast parser's value is surely what the text says.

    Every key and every string has two quotes in the text, and each quote in it is one there, unless it is written as
    ``\\u0022``. A repeated key leaves fewer in the value than in the text.
    """
    texts: list[str] = []
    level = [value]
    for depth in range(MAX_DEPTH + 1):
        children: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str:
                texts.append(item)
            elif kind is dict or kind is list:
                if depth == MAX_DEPTH:
                    return False
                if kind is dict:
                    texts += item
                    children += item.values()
                else:
                    children += item
            elif kind is float and abs(item) >= 2.0**63:
                return False  # perhaps an integer that lost its digits
        level = children
        if not level:
            break
    return data.count(b'"') == 2 * len(texts) + "".join(texts).count('"') and rb"\u0022" not in data


def _parse_slowly(text: str | bytes) -> Any:
    if isinstance(text, bytes):
        text = text.decode()
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_int=_int, parse_float=_float
        )
        _check_depth(value)
        if _SURROGATE.search(text):
            _encode(json.dumps(value, ensure_ascii=False))
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        reason, place = _first_fault(text) or (str(error), 0)
        raise json.JSONDecodeError(reason, text, place) from None
    return value


def _first_fault(text: str) -> tuple[str, int] | None:
    """What the text holds that is no strict JSON, and where; found token by token, as the parser does not say."""
    keys: list[set[str]] = []
    for token in _TOKEN.finditer(text):
        word = token[0]
        try:
            if word in ("[", "{"):
                keys.append(set())
                if len(keys) > MAX_DEPTH:
                    raise ValueError(_TOO_DEEP)
            elif word in ("]", "}"):
                keys.pop()
            elif word.startswith('"'):
                string = json.loads(word)
                _encode(string)
                if _COLON.match(text, token.end()):
                    if string in keys[-1]:
                        raise ValueError(f"the key {string[:60]!r} occurs twice")
                    keys[-1].add(string)
            elif word[-1].isdigit():
                (_int if word.lstrip("-").isdigit() else _float)(word)
            else:
                _refuse_constant(word)
        except ValueError as error:
            return str(error), token.start()
    return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _encode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair, which is no character") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _int(digits: str) -> int:
    if len(digits.lstrip("-")) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits is too large")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:20]} is too large")
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
        ]
    if any(isinstance(item, (dict, list)) for item in level):
        raise ValueError(_TOO_DEEP)
