"""How one argument of one tool is compared: ``{"send_email.body": "token_f1(0.7)", "*.reason": "ignore"}``."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Any

from pivotrl.judging.answers.calendar_dates import Ambiguous, may_be_date, read_date
from pivotrl.judging.messages.dates import number, same_moment
from pivotrl.judging.messages.free_text import normalised
from pivotrl.judging.messages.likeness import Likeness, likeness
from pivotrl.judging.messages.number_words import may_be_number_words, number_in_words
from pivotrl.protocols import InputError

NAMES = ("exact", "normalised", "token_f1", "ignore", "unordered", "date", "number")
DEFAULT_F1 = 0.8

_SPELLING = re.compile(r"([a-z_0-9]{1,20})(?:\(([0-9.]{1,10})\))?\Z")


@dataclass(frozen=True)
class Rule:
    """exact: identical, whatever the schema allows. normalised: blanks, letter case and NFC do not count. token_f1:
    words and facts (:func:`~pivotrl.judging.messages.likeness.likeness`), and may leave it open. ignore: anything, or
    nothing. unordered: an array in any order. date: the same day however it is written, or the same ISO instant;
    ``03/05/2026`` leaves it open, as does a notation that is not known.
    number: a text that is a number, also a fraction or in words, equals that number; ``1,000`` leaves it open."""

    name: str
    threshold: float = DEFAULT_F1

    @property
    def loosens(self) -> bool:
        """Whether the rule may accept texts that are not two spellings of one value."""
        return self.name in ("normalised", "token_f1")

    def compare(self, expected: Any, actual: Any) -> Likeness | None:
        """Whether two values are equal by this rule; None if it does not cover such values."""
        if self.name == "number":
            one, other = _number(expected), _number(actual)
            if one is None or other is None:
                unread = expected if one is None else actual
                is_open = one is not other and isinstance(unread, str) and may_be_number_words(unread)
                return "undecided" if is_open else None
            is_doubtful = one == other and any(isinstance(v, str) and _ONE_GROUP.match(v) for v in (expected, actual))
            return "undecided" if is_doubtful and expected != actual else _told(one == other)
        if not isinstance(expected, str) or not isinstance(actual, str):
            return None
        if self.name == "normalised":
            return _told(normalised(expected) == normalised(actual))
        if self.name == "token_f1":
            return likeness(expected, actual, self.threshold)
        if self.name == "date":
            return _same_date(expected.strip(), actual.strip())
        return _told(expected == actual) if self.name == "exact" else None


def _number(value: Any) -> Fraction | None:
    if isinstance(value, str):
        value = value.strip().replace("\u2212", "-")
        if part := _FRACTION.match(value):
            return Fraction(int(part[1]), int(part[2]))
        if said := number_in_words(value):
            return Fraction(said[0])
        value = value.replace(",", "") if _GROUPED.match(value) else value
    found = number(value)
    return None if found is None else Fraction(found)


_FRACTION = re.compile(r"([+-]?[0-9]{1,40})/([0-9]{0,39}[1-9][0-9]{0,39})\Z")


_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(?:,[0-9]{3}){1,12}(?:\.[0-9]{1,40})?\Z")
_ONE_GROUP = re.compile(r"[+-]?[0-9]{1,3},[0-9]{3}\Z")
"""``1,000``: a thousand, or one where the comma is the decimal mark."""


def _same_date(one: str, two: str) -> Likeness:
    if same_moment(one, two):
        return "equal"
    mine, theirs = read_date(one), read_date(two)
    for day, other in ((mine, two), (theirs, one)):
        if isinstance(day, date) and None in (mine, theirs) and may_be_date(other, day):
            return "undecided"
    if mine is None or theirs is None or mine == theirs:
        return _told(mine is not None and mine == theirs)
    for first, second in ((mine, theirs), (theirs, mine)):
        if isinstance(first, Ambiguous) and isinstance(second, date) and first.may_be(second):
            return "undecided"
    return "different"


def _told(is_equal: bool) -> Likeness:
    return "equal" if is_equal else "different"


RuleAt = Callable[[str], Rule | None]
"""The rule for a place inside a call's arguments, such as ``flights.date``; positions in arrays are left out."""


def rules_for(rules: Mapping[str, str], tool: str) -> RuleAt | None:
    """The rules that may apply to a tool; None if there are no rules.

    A place is the tool's name and the keys down to the value, joined by dots: ``book.flights.date``. In a pattern
    ``*`` stands for any characters. A place without ``*`` goes before patterns; the first matching pattern applies.

    Raises:
        InputError: a rule is unknown, or a place names no argument.
    """
    if not isinstance(rules, Mapping):
        raise InputError(f"rules: write places and rules, such as {{'*.reason': 'ignore'}}, not {rules!r}")
    return _lookup(tuple(rules.items()), tool) if rules else None


@functools.lru_cache(maxsize=1024)
def _lookup(rules: tuple[tuple[str, str], ...], tool: str) -> RuleAt:
    parsed = _parsed(rules)

    @functools.lru_cache(maxsize=1024)
    def rule_at(path: str) -> Rule | None:
        place = f"{tool}.{path}"
        if place in parsed:
            return parsed[place]
        return next((rule for pattern, rule in parsed.items() if fnmatchcase(place, pattern)), None)

    return rule_at


@functools.lru_cache(maxsize=64)
def _parsed(rules: tuple[tuple[str, str], ...]) -> dict[str, Rule]:
    return {_checked_place(place): parse_rule(spelling) for place, spelling in rules}


def _checked_place(place: str) -> str:
    if not isinstance(place, str) or "." not in place.strip("."):
        raise InputError(f"rules: {place!r} names no argument; write tool.argument, or *.argument for every tool")
    return place


def parse_rule(spelling: str) -> Rule:
    """``token_f1(0.7)`` -> the rule.

    Raises:
        InputError: the rule is unknown, or its threshold is not in (0, 1].
    """
    found = _SPELLING.match(spelling) if isinstance(spelling, str) else None
    if not found or found[1] not in NAMES or (found[2] and found[1] != "token_f1"):
        raise InputError(f"rules: no rule {spelling!r}; there are {', '.join(NAMES)}, and token_f1(0.7)")
    try:
        threshold = float(found[2]) if found[2] else DEFAULT_F1
    except ValueError:
        threshold = 0.0
    if not 0.0 < threshold <= 1.0:
        raise InputError(f"rules: the threshold of {spelling!r} must be above 0 and at most 1")
    return Rule(found[1], threshold)
