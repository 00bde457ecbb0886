"""Verifiers that are strict but for one thing, for the lint to find."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pivotrl.protocols import Turn
from pivotrl.records import Action, Verdict
from pivotrl.records.strict_json import parse_arguments
from pivotrl.verifiers import exact

Same = Callable[[Any, Any], bool]


def _calls(same: Callable[[Mapping[str, Any], Mapping[str, Any]], bool]) -> Callable[[Turn, Action], Verdict]:
    """The same tools in the same order, with arguments that are the same in this sense; messages to the letter."""

    def verify(turn: Turn, action: Action) -> Verdict:
        expected = turn.expected_action
        if not expected.tool_calls or len(expected.tool_calls) != len(action.tool_calls):
            return exact.verify(turn, action)
        try:
            for one, other in zip(expected.tool_calls, action.tool_calls, strict=True):
                if one.name != other.name or not same(parse_arguments(one.arguments), parse_arguments(other.arguments)):
                    return exact.verify(turn, action)
        except (ValueError, AttributeError):
            return exact.verify(turn, action)
        return Verdict.passed()

    return verify


def _each(same: Same) -> Callable[[Mapping[str, Any], Mapping[str, Any]], bool]:
    def compare(one: Any, other: Any) -> bool:
        if isinstance(one, dict) and isinstance(other, dict):
            return one.keys() == other.keys() and all(compare(one[key], other[key]) for key in one)
        if isinstance(one, list) and isinstance(other, list):
            return len(one) == len(other) and all(map(compare, one, other))
        return type(one) is type(other) and (one == other or same(one, other))

    return compare


def _texts(change: Callable[[str], object]) -> Same:
    return lambda one, other: isinstance(one, str) and change(one) == change(other)


def _near(one: Any, other: Any) -> bool:
    is_number = isinstance(one, int | float) and not isinstance(one, bool)
    return is_number and abs(one - other) <= 0.1 * abs(one)


def _begins(one: Any, other: Any) -> bool:
    return isinstance(one, str) and bool(one and other) and (one.startswith(other) or other.startswith(one))


def _free_messages(turn: Turn, action: Action) -> Verdict:
    if not turn.expected_action.tool_calls and not action.tool_calls and action.content:
        return Verdict.passed()
    return exact.verify(turn, action)


def _without_last(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    ignored = max(one, default="")
    return {k: v for k, v in one.items() if k != ignored} == {k: v for k, v in other.items() if k != ignored}


SLOPPY: dict[str, Callable[[Turn, Action], Verdict]] = {
    "numbers within 10 %": _calls(_each(_near)),
    "punctuation stripped": _calls(_each(_texts(lambda text: re.sub(r"[#\-_. ]", "", text)))),
    "messages free": _free_messages,
    "prefix match": _calls(_each(_begins)),
    "bag of words": _calls(_each(_texts(lambda text: sorted(text.split())))),
    "one argument ignored": _calls(_without_last),
    "case ignored": _calls(_each(_texts(str.casefold))),
}
