"""Dates and times written in ISO 8601, and numbers written as text: equal when they mean the same."""

from __future__ import annotations

import re
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_TIME = re.compile(r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:Z|[+-][0-9]{2}:[0-9]{2})?\Z")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?\Z")
_FORMATS = {"date": "date", "date-time": "instant", "time": "time"}


def same_moment(expected: str, actual: str, kind: str = "") -> bool:
    """Whether two texts name the same date, time or instant.

    ``2024-05-01T10:00:00Z`` equals ``2024-05-01T12:00:00+02:00`` and ``2024-05-01 10:00Z``. A date never equals an
    instant, midnight included, and a time with an offset never one without: which zone was meant is not known. Texts
    that are no ISO dates (``1/5/2024``, ``May 1``) are equal when identical.

    Args:
        kind: a JSON schema format; of any but ``date``, ``date-time`` and ``time`` both are tried as what they are.
    """
    if expected == actual:
        return True
    one, other = moment(expected), moment(actual)
    wanted = _FORMATS.get(kind)
    if one is None or other is None or one[0] != other[0] or (wanted and one[0].partition(" ")[0] != wanted):
        return False
    return one == other


def moment(text: str) -> tuple[str, Any] | None:
    """(kind, a value that is equal for equal moments); None if it is not an ISO date, time or instant."""
    if len(text) > 40:
        return None
    day, separator, clock = text.partition("T") if "T" in text else text.partition(" ")
    try:
        if _DATE.match(text):
            return "date", date.fromisoformat(text)
        if separator and _DATE.match(day) and _TIME.match(clock):
            instant = datetime.fromisoformat(f"{day}T{clock}")
            return ("instant" if instant.tzinfo else "instant without zone"), instant
        if _TIME.match(text):
            at = time.fromisoformat(text)
            return ("time" if at.tzinfo else "time without zone"), at
    except ValueError:
        pass
    return None


def number(value: Any) -> Decimal | None:
    """A JSON number, or a text that is one, exactly; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, float):
        return Decimal(repr(value))
    return Decimal(value) if isinstance(value, str) and _NUMBER.match(value) else None
