"""Exactly the demonstrated action: the strict reward, the paper's baseline for its functional one.

``r_strict = 1[a == a*]`` (the strict baseline of PivotRL): the same tool calls in the same order, and the same text.
Other right actions fail, so it rewards too little.
"""

from __future__ import annotations

from typing import Any

from pivotrl.judging.arguments.values import compare_json
from pivotrl.judging.messages.free_text import same_text
from pivotrl.protocols import Turn
from pivotrl.records import Action, Verdict
from pivotrl.records.strict_json import call_arguments

Call = tuple[str, dict[str, Any]]
"""(name, arguments)"""


def verify(turn: Turn, action: Action, *, compare_text: bool = True) -> Verdict:
    """Pass when the action is the demonstrated one.

    Arguments are equal as JSON objects: key order and blanks between tokens do not count, nor does 5 against 5.0.
    Text is equal after stripping; ``compare_text=False`` leaves it out where there are tool calls to compare. Any of
    the turn's accepted actions will do; a failure is that of the demonstrated one.

    Reasons: match; empty_action, arguments_not_json, different_tool_calls, different_text; and without a verdict
    no_expected_action, expected_arguments_not_json.
    """
    demonstrated, *others = turn.accepted_actions
    verdict = _verify_one(demonstrated, action, compare_text)
    for number, other in enumerate(others, start=1):
        if verdict.outcome == "pass":
            break
        if _verify_one(other, action, compare_text).outcome == "pass":
            verdict = Verdict.passed(accepted=number)
    return verdict


def _verify_one(expected: Action, action: Action, compare_text: bool) -> Verdict:
    if expected.is_empty:
        return Verdict.unknown("no_expected_action")
    try:
        wanted = _calls(expected)
    except ValueError as error:
        return Verdict.unknown("expected_arguments_not_json", error=str(error))
    if action.is_empty:
        return Verdict.failed("empty_action")
    try:
        called = _calls(action)
    except ValueError as error:
        return Verdict.failed("arguments_not_json", error=str(error))
    if not _same_calls(wanted, called):
        return Verdict.failed("different_tool_calls")
    if (compare_text or not wanted) and not same_text(expected.content, action.content):
        return Verdict.failed("different_text")
    return Verdict.passed()


def _calls(action: Action) -> list[Call]:
    return [(call.name, call_arguments(call.arguments)) for call in action.tool_calls]


def _same_calls(wanted: list[Call], called: list[Call]) -> bool:
    return len(wanted) == len(called) and all(
        name == other_name and compare_json(arguments, other_arguments) is None
        for (name, arguments), (other_name, other_arguments) in zip(wanted, called, strict=True)
    )
