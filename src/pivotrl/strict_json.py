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
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text, read strictly.

    Raises:
        ValueError: with a one-line reason. Not UTF-8 (a ``UnicodeDecodeError``), not JSON (a ``JSONDecodeError``,
            which knows line and column), a duplicate key, NaN or Infinity, a number beyond the range of a float, half
            of a surrogate pair, or nesting deeper than ``MAX_DEPTH``.
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

    Every key and every string has two quotes in the text. A repeated key leaves fewer in the value than in the text.
    """
    num_strings = 0
    level = [value]
    for depth in range(MAX_DEPTH + 1):
        children: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str:
                num_strings += 1
            elif kind is dict:
                num_strings += len(item)
                children += item.values()
            elif kind is list:
                children += item
            elif kind is float and abs(item) >= 2.0**63:
                return False  # perhaps an integer that lost its digits
            if depth == MAX_DEPTH and kind in (dict, list):
                return False
        level = children
        if not level:
            break
    single = data.replace(rb"\\", b"") if rb"\\" in data else data
    return data.count(b'"') - single.count(rb"\"") == 2 * num_strings


def _parse_slowly(text: str | bytes) -> Any:
    if isinstance(text, bytes):
        text = text.decode()
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_int=_int, parse_float=_float
        )
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _check_depth(value)
    if _SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("half of a surrogate pair, which is no character") from None
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in found if keys.count(key) > 1)[:60]!r} occurs twice")
    return found


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
