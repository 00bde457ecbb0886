"""The same final answer: a number, a mathematical expression, a date, a time, a choice, a list or a short text.

Made for turns that end a task with an answer, in a message or in the argument of a tool that submits it. How the
answer was found out is not judged.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Literal, get_args

from pivotrl.judging.answers.answers import AnswerRules, Extraction, Kind, compare_answers, extract, quotes_question
from pivotrl.options import NotNegative, Positive
from pivotrl.protocols import InputError, Turn
from pivotrl.records import Action, Verdict
from pivotrl.records.strict_json import parse_arguments

MAX_CHARACTERS = 50_000
_MAX_ANSWERS = 10
_UNDECIDED = ("expected_answer_unreadable", "unknown_unit", "unknown_notation", "maths_timeout")


def verify(
    turn: Turn,
    action: Action,
    *,
    kind: Kind = "auto",
    extraction: Sequence[Extraction] = ("boxed", "answer_line", "whole"),
    tool: str | None = None,
    argument: str = "answer",
    ordered: bool = False,
    units: Literal["exact", "optional"] = "exact",
    relative_tolerance: NotNegative = 0.0,
    absolute_tolerance: NotNegative = 0.0,
    timeout_seconds: Positive = 5.0,
) -> Verdict:
    r"""Pass when the action gives exactly one answer, equal to that of an accepted action.

    Args:
        kind: the type of answer. ``auto``: what the expected one can be read as, a number, a date, a time of day, an
            expression (it has LaTeX, ``^`` or ``=``, or is made of letters, numbers and signs as ``2x+1``), else text;
            lists and choices must be declared. Numbers are exact: 5 is 5.0, 1/2 and 50% are 0.5, 1,234 is 1234. Dates
            are ISO or spelled out; the ambiguous 01/02/2024 equals only itself. Texts are equal up to letter case and
            blanks.
        extraction: where to look for the answer, see :func:`pivotrl.judging.answers.answers.extract`.
        tool: the tool that submits the answer; None: it is in the message.
        argument: the tool's argument that holds it, always read with the rule ``whole``.
        ordered: whether the order of a list counts; if not, it is a multiset.
        units: ``exact``: the same unit or currency, by sign or by name, or none on both sides. ``optional``: it may be
            left out on one; any other word behind a number gives no verdict. Units are never converted.
        relative_tolerance, absolute_tolerance: how far a number may be off; the larger one applies.
        timeout_seconds: time limit for comparing expressions.

    Reasons: match; empty_action, no_answer, several_answers, quotes_question, too_long, unexpected_tool_call,
    expected_tool_call, wrong_tool, arguments_not_json, missing_argument, unexpected_argument, and those of
    :func:`pivotrl.judging.answers.answers.compare_answers`; and without a verdict no_expected_action,
    no_expected_answer, expected_answer_unreadable, unknown_unit, unknown_notation, maths_timeout. An answer that is
    the expected one to the letter passes before anything is read.

    Raises:
        InputError: an option is invalid, or a package is missing. Never for an action.
    """
    rules = AnswerRules(kind, ordered, units, relative_tolerance, absolute_tolerance, timeout_seconds)
    places: set[str] = {extraction} if isinstance(extraction, str) else set(extraction)
    if not places or not places <= set(get_args(Extraction)):
        raise InputError(f"answer: extraction={extraction!r} must name some of {', '.join(get_args(Extraction))}")
    if turn.expected_action.is_empty:
        return Verdict.unknown("no_expected_action")
    if action.is_empty:
        return Verdict.failed("empty_action")
    found = _answers(action, tool, argument, places)
    if tool is not None and _unknown_arguments(turn, action, tool):
        return Verdict.failed("unexpected_argument")
    question = next((m.content or "" for m in reversed(turn.context) if m.role == "user"), "")
    verdicts = [
        _judge(_answers(accepted, tool, argument, places), found, question, rules) for accepted in turn.accepted_actions
    ]
    for outcome in ("pass", "no_verdict"):
        for verdict in verdicts:
            if verdict.outcome == outcome:
                return verdict
    return verdicts[0]


def _unknown_arguments(turn: Turn, action: Action, tool: str) -> bool:
    """Whether the call has arguments unknown to the schema and to accepted calls: a tool would refuse it."""
    declared = next((item.parameters.get("properties") for item in turn.trajectory.tools if item.name == tool), None)
    accepted = (_names(call.arguments) for known in turn.accepted_actions for call in known.tool_calls)
    names = set().union(declared or (), *accepted)
    return bool(declared) and any(not _names(call.arguments) <= names for call in action.tool_calls)


def _names(arguments: str) -> set[str]:
    try:
        return set(parse_arguments(arguments)) if len(arguments) <= MAX_CHARACTERS else set()
    except ValueError:
        return set()


def _answers(action: Action, tool: str | None, argument: str, places: Collection[str]) -> list[str] | str:
    """The answers in an action, or why there are none."""
    if tool is None:
        if action.tool_calls:
            return "unexpected_tool_call"
        text = action.content or ""
        return "too_long" if len(text) > MAX_CHARACTERS else extract(text, places) or "no_answer"
    if not action.tool_calls:
        return "expected_tool_call"
    found: list[str] = []
    for call in action.tool_calls:
        if call.name != tool:
            return "wrong_tool"
        if len(call.arguments) > MAX_CHARACTERS:
            return "too_long"
        try:
            value = parse_arguments(call.arguments)[argument]
        except ValueError:
            return "arguments_not_json"
        except KeyError:
            return "missing_argument"
        found += extract(value if isinstance(value, str) else json.dumps(value), ("whole",))
    return found or "no_answer"


def _judge(expected: list[str] | str, found: list[str] | str, question: str, rules: AnswerRules) -> Verdict:
    if isinstance(expected, str):
        return Verdict.unknown("no_expected_answer", why=expected)
    wanted = expected[-1]
    if any(compare_answers(wanted, other, rules) != "match" for other in expected[:-1]):
        return Verdict.unknown("no_expected_answer", why="several_answers")
    if isinstance(found, str):
        return Verdict.failed(found)
    reasons = {answer: compare_answers(wanted, answer, rules) for answer in found[:_MAX_ANSWERS]}
    undecided = next((reason for reason in reasons.values() if reason in _UNDECIDED), None)
    matches = [answer for answer, reason in reasons.items() if reason == "match"]
    if len(found) > 1 and (len(matches) < len(found) or len(found) > len(reasons)):
        return Verdict.failed("several_answers", answers=[answer[:200] for answer in reasons])
    if any(quotes_question(question, answer, wanted) for answer in found):
        return Verdict.failed("quotes_question", answer=found[0][:200])
    if undecided:
        return Verdict.unknown(undecided, expected=wanted[:200], answer=found[0][:200])
    if not matches:
        return Verdict.failed(reasons[found[0]], expected=wanted[:200], answer=found[0][:200])
    return Verdict.passed(answer=found[0][:200])
