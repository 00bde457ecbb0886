"""Server ``xlam_fc``: every expected call once, its arguments equal; arguments beyond the expected ones are free."""

from __future__ import annotations

from collections.abc import Sequence
from json import JSONDecodeError
from typing import Any

from pivotrl.judging.gym_rules.result import Call, GymFails, GymResult, parse


def compare(expected: Sequence[Call], actual: Sequence[Call]) -> GymResult:
    """Reward an action; text does not count; if no call is expected, there must be none.

    The server has no categories. Reasons: all_calls_match, call_missing, number_of_calls_different.

    Raises:
        GymFails: the arguments of an expected call are not a JSON object.
    """
    given = [(name, _actual(text)) for name, text in actual]
    taken: set[int] = set()
    for wanted in expected:  # first come, first served, which is no maximum matching
        match = next((i for i, call in enumerate(given) if i not in taken and _fits(wanted, call)), None)
        if match is not None:
            taken.add(match)
    counts = {"num_expected": len(expected), "num_predicted": len(given), "num_correct": len(taken)}
    if len(taken) == len(expected) == len(given):
        return GymResult(1.0, "all_calls_match", "", counts)
    reason = "call_missing" if len(taken) < len(expected) else "number_of_calls_different"
    return GymResult(0.0, reason, "", counts)


def _expected(text: str) -> dict[str, Any]:
    try:
        value = parse(text)
    except JSONDecodeError:
        return {}
    except ValueError as error:
        raise GymFails(str(error)) from error
    if not isinstance(value, dict):
        raise GymFails("the arguments of an expected call are not an object")
    return value


def _actual(text: str) -> Any:
    """Gym decodes what a policy wrote twice, so JSON within a JSON text counts as arguments too."""
    value: Any = text
    for _ in range(2):
        if isinstance(value, str):
            try:
                value = parse(value)
            except ValueError:
                return {}
    return value


def _fits(expected: Call, actual: tuple[str, Any]) -> bool:
    if expected[0] != actual[0]:
        return False
    given = actual[1] if isinstance(actual[1], dict) else {}
    return all(key in given and given[key] == value for key, value in _expected(expected[1]).items())
