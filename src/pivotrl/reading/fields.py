"""Checked access to parsed JSON; each fault is a ValueError that names the field.

Null counts as missing: Arrow fills absent fields with null, and so do full dumps of typed objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pivotrl.records.strict_json import kind_of, parse_json

T = TypeVar("T")

_KINDS: dict[type, str] = {dict: "object", list: "array", str: "string", int: "number"}


def as_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, not {kind_of(value)}")
    return value


def optional(row: dict[str, Any], key: str, kind: type[T]) -> T | None:
    """``row[key]`` if it has that type; None if it is missing or null.

    Raises:
        ValueError: it has another type.
    """
    value = row.get(key)
    if value is not None and not isinstance(value, kind):
        raise ValueError(f"{key} is {kind_of(value)}, not {_KINDS[kind]}")
    return value


def member(row: dict[str, Any], key: str, kind: type[T]) -> T:
    """``row[key]``, which must exist and have that type."""
    value = optional(row, key, kind)
    if value is None:
        raise ValueError(f"{key} is missing")
    return value


def identifier(row: dict[str, Any], *keys: str) -> str | None:
    """The first of the keys that holds a text or a number that is not empty, as text."""
    for key in keys:
        value = row.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            return str(value)
        if value not in (None, ""):
            raise ValueError(f"{key} is {kind_of(value)}, not a name")
    return None


def json_text(name: str, text: str) -> Any:
    """The value of a field that holds JSON as text; null if it is blank."""
    try:
        return parse_json(text) if text.strip() else None
    except ValueError as error:
        raise ValueError(f"{name} is text that is not JSON: {error}") from error


def each(name: str, items: Sequence[Any], parse: Callable[[Any], T]) -> list[T]:
    """Every item parsed; a fault names the item, such as ``messages[3]``."""
    parsed = []
    for index, item in enumerate(items):
        try:
            parsed.append(parse(item))
        except ValueError as error:
            raise ValueError(f"{name}[{index}]: {error}") from error
    return parsed
