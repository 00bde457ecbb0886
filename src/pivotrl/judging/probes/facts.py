"""Find the facts in a text or a value (numbers, dates, ids, names, directions, negations) and change one of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?![\w])")
_ID = re.compile(r"\b(?=\w*\d)(?=\w*[A-Za-z])\w{3,}\b|#W?\d+")
_LIST_MARK = re.compile(r"(?:^|\n)\s*(?:\*\*)?\d+[.)]\s")
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{2,}\b(?!')")
_DIRECTION = re.compile(r"\bfrom (\W*\w+\W*?) to (\W*\w+)", re.IGNORECASE)
_NEGATIONS = (
    (re.compile(r"\bcannot\b"), "can"),
    (re.compile(r"\bcan't\b"), "can"),
    (re.compile(r"\bunable\b"), "able"),
    (re.compile(r"\b(is|are|was|were|will|does|do|has|have|should|must|not) not\b"), r"\1"),
    (re.compile(r"\b(is|are|was|were|does|do|has|have|would|should)n't\b"), r"\1"),
    (re.compile(r"\b(is|are|was|were|will|can|has been|have been)\b(?! not)"), r"\1 not"),
)
_FLIPS = {"true": "false", "yes": "no", "asc": "desc", "high": "low", "add": "remove", "economy": "business"}
_WORD = re.compile(r"[\w./-]+")
_FREE_TEXT_WORDS = 4
"""A string of at least this many words is free text."""


def is_free_text(text: str) -> bool:
    return len(text.split()) >= _FREE_TEXT_WORDS


def facts(text: str) -> set[str]:
    """The numbers of two digits or more, ids and names that a text mentions, in lower case."""
    found = {m[0].replace(",", "") for m in _NUMBER.finditer(text) if len(m[0]) > 1}
    found |= {m[0].lower() for m in _ID.finditer(text)} | {m[0].lower() for m in _NAME.finditer(text)}
    return found


def swaps(text: str) -> Iterator[tuple[str, str]]:
    """(what was changed, the changed text), at most one of each kind."""
    marks = [range(m.start(), m.end()) for m in _LIST_MARK.finditer(text)]
    for match in _NUMBER.finditer(text):
        if not any(match.start() in mark for mark in marks):
            yield "number", _put(text, match, _other_number(match[0]))
            break
    if found := _ID.search(text):
        yield "id", _put(text, found, _other_number(found[0]))
    if found := _NAME.search(text):
        yield "name", _put(text, found, "Morgan" if found[0] != "Morgan" else "Taylor")
    way = _DIRECTION.search(text)
    if way and way[1].strip() != way[2].strip():
        before, between, after = text[: way.start(1)], text[way.end(1) : way.start(2)], text[way.end(2) :]
        yield "direction", f"{before}{way[2]}{between}{way[1]}{after}"
    for pattern, replacement in _NEGATIONS:
        if pattern.search(text):
            yield "negation", pattern.sub(replacement, text, count=1)
            break


def other_value(value: Any, schema: Mapping[str, Any]) -> Any:
    """A value of the same type that means something else; the same value if there is none."""
    choices = [choice for choice in schema.get("enum") or [] if choice != value]
    if choices:
        return choices[0]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return other_text(value)
    if isinstance(value, list):
        return value[:-1] if value else ["x"]
    return value


def other_text(text: str) -> str:
    """Another value for a short one: a changed digit, a known opposite, else the last word changed."""
    if text.lower() in _FLIPS:
        return _FLIPS[text.lower()]
    if match := re.search(r"\d+(?!.*\d)", text, re.DOTALL):
        return text[: match.start()] + _other_number(match[0]) + text[match.end() :]
    words = list(_WORD.finditer(text))
    if not words:
        return text + "x"
    stem, dot, suffix = words[-1][0].rpartition(".")
    return (
        text[: words[-1].start()]
        + (f"{stem}_2.{suffix}" if dot and stem else f"{words[-1][0]}_2")
        + text[words[-1].end() :]
    )


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """(path, value) of everything in a JSON value that is not an object or an array."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from leaves(item, (*path, i))
    else:
        yield path, value


def replaced(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    """A copy of a JSON value with another value at a path."""
    if not path:
        return new
    head, *rest = path
    if isinstance(value, dict):
        return {key: replaced(item, tuple(rest), new) if key == head else item for key, item in value.items()}
    return [replaced(item, tuple(rest), new) if i == head else item for i, item in enumerate(value)]


def schema_at(schema: Mapping[str, Any], path: tuple[str | int, ...]) -> Mapping[str, Any]:
    """The schema of the value at a path; empty if there is none. References are not followed."""
    found: Any = schema
    for step in path:
        found = found.get("items") if isinstance(step, int) else (found.get("properties") or {}).get(step)
        if not isinstance(found, dict):
            return {}
    described: Mapping[str, Any] = found
    return described


def _other_number(number: str) -> str:
    """Another number of the same form: its last digit raised by one."""
    last = max(i for i, c in enumerate(number) if c.isdigit())
    return number[:last] + str((int(number[last]) + 1) % 10) + number[last + 1 :]


def _put(text: str, match: re.Match[str], new: str) -> str:
    return text[: match.start()] + new + text[match.end() :]
