"""Dates and times of day as people write them: ``2024-03-01``, ``March 1st, 2024``, ``25/12/2024``, ``3:30 p.m.``.

Dates in other languages too, where ``babel`` is installed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, time

from pivotrl.judging.messages.cldr import read_local_date

_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NUMBER = {name: i for i, month in enumerate(_MONTHS, start=1) for name in (month, month[:3])} | {"sept": 9}

_DAY = r"(?P<day>[0-9]{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>[0-9]{4})"
_MONTH = r"(?P<month>[a-z]+)\.?"
_SPELLED = [
    re.compile(pattern)
    for pattern in (
        rf"(?:the )?{_DAY}(?: of)?[ -]{_MONTH},?[ -]{_YEAR}\Z",
        rf"{_MONTH} (?:the )?{_DAY},? {_YEAR}\Z",
        rf"{_YEAR},? {_MONTH} {_DAY}\Z",
    )
]
_ISO = re.compile(r"([0-9]{4})([-/.])([0-9]{1,2})\2([0-9]{1,2})\Z")
_NUMERIC = re.compile(r"([0-9]{1,2})([-/.])([0-9]{1,2})\2([0-9]{4})\Z")


@dataclass(frozen=True)
class Ambiguous:
    """``01/02/2024``: day and month may be meant either way. Equal only to the same numbers in the same order."""

    first: int
    second: int
    year: int

    def may_be(self, day: date) -> bool:
        return self.year == day.year and {self.first, self.second} == {day.day, day.month}


def read_date(text: str) -> date | Ambiguous | None:
    """The date that the whole text is; None when it is anything else, or no day of the calendar.

    A day of the week may stand before it and must be right.
    """
    if len(text) > 60:
        return None
    text = " ".join(text.casefold().split()).removesuffix(".")
    weekday, _, rest = text.replace(",", " ", 1).partition(" ")
    named = next((i for i, day in enumerate(_DAYS) if weekday in (day, day[:3])), None)
    found = _read(rest.strip() if named is not None else text)
    if named is not None and (not isinstance(found, date) or found.weekday() != named):
        return None
    return found


def _read(text: str) -> date | Ambiguous | None:
    if match := _ISO.match(text):
        return _date(int(match[1]), int(match[3]), int(match[4]))
    if match := _NUMERIC.match(text):
        first, second, year = int(match[1]), int(match[3]), int(match[4])
        if first == second or second > 12:
            return _date(year, first, second)
        if first > 12:
            return _date(year, second, first)
        return Ambiguous(first, second, year) if first and second else None
    for pattern in _SPELLED:
        if (match := pattern.match(text)) and match["month"] in _NUMBER:
            return _date(int(match["year"]), _NUMBER[match["month"]], int(match["day"]))
    return read_local_date(text)


def may_be_date(text: str, day: date) -> bool:
    """Whether a text that cannot be read as a date may be this day, in a notation that is not known: it has the
    numbers of its year and its day and at most one more, and words that are not English names of days and months."""
    words = re.findall(r"[^\W\d_]+", text[:60].casefold())
    if not words or any(word in _NUMBER or word in _DAYS for word in words):
        return False
    numbers = [int(number) for number in re.findall(r"[0-9]{1,4}", text[:60])]
    return len(text) <= 60 and len(numbers) <= 3 and day.year in numbers and day.day in numbers


def _date(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None


_TIME = re.compile(
    r"(?P<hour>[0-9]{1,2})(?:[:.](?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2}))?)?\s*(?P<half>[ap])\.?m\.?\Z"
    r"|(?P<hour24>[0-9]{1,2}):(?P<minute24>[0-9]{2})(?::(?P<second24>[0-9]{2}))?(?:\s*(?:h|hrs|hours|o'clock))?\Z"
)
_NAMED_TIMES = {"noon": time(12), "12 noon": time(12), "midday": time(12), "midnight": time(0), "12 midnight": time(0)}


def read_time(text: str) -> time | None:
    """The time of day that the whole text is. ``3:30`` without half of the day is half past three at night."""
    text = " ".join(text.casefold().split())
    if text in _NAMED_TIMES:
        return _NAMED_TIMES[text]
    match = _TIME.match(text) if len(text) <= 30 else None
    if match is None:
        return None
    if match["half"]:
        hour, minute, second = int(match["hour"]), match["minute"], match["second"]
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (match["half"] == "p")
    else:
        hour, minute, second = int(match["hour24"]), match["minute24"], match["second24"]
    try:
        return time(hour, int(minute or 0), int(second or 0))
    except ValueError:
        return None


def tells_half(text: str) -> bool:
    """Whether a time says which half of the day it is in: a bare ``2:30`` may be a ratio or a duration."""
    found = read_time(text)
    return found is not None and bool(re.search(r"[ap]\.?m|noon|mid", text, re.IGNORECASE))
