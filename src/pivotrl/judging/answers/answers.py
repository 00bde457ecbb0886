"""Final answers: found in a message by explicit rules, and compared as what they are."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from types import ModuleType
from typing import Literal, get_args

from pivotrl.judging.answers.calendar_dates import Ambiguous, may_be_date, read_date, read_time, tells_half
from pivotrl.judging.answers.quantities import Number, read_number, same_number
from pivotrl.judging.answers.texts import folded, with_scripts
from pivotrl.judging.answers.units import is_unit, same_unit
from pivotrl.judging.messages.number_words import (
    LANGUAGES,
    has_figures,
    in_figures,
    may_be_number_words,
    number_in_words,
)
from pivotrl.judging.messages.pairing import match_all
from pivotrl.plugins.extras import install_hint
from pivotrl.protocols import InputError

Kind = Literal["auto", "number", "expression", "date", "time", "choice", "list", "text"]
Extraction = Literal["boxed", "answer_line", "whole"]

_MAX_ITEMS = 200
_MAX_MARKS = 8
"""How many marks are removed from an answer; more would cost quadratic time."""
_ANSWER_LINE = re.compile(
    r"^[ \t>*_#-]*(?:(?:(?:my|the|so the) )?(?:final |correct )?answer(?: is)?[ \t]*(?:[:=]|(?<=is))|####)"
    r"(?:\*\*|__)?[ \t]*(\S.*)$",
    re.IGNORECASE | re.MULTILINE,
)
_CHOICE = re.compile(r"(?:(?:option|choice)\s+)?[(\[]?([A-Za-z])(?:[)\].:]+(?:\s+(.*))?)?\Z", re.DOTALL | re.IGNORECASE)
_OTHER_CHOICE = re.compile(r"\b(?:or|and|not)\b|(?:^|\W)[A-Z][).:\]]|\([A-Za-z]\)")
_MATHS = re.compile(r"[\\^=√π∞]|\*\*|\b(?:sqrt|pi)\b")
_ALGEBRA = re.compile(
    r"(?=.*[a-z])(?=.*(?:[+*(<>≤≥]|[0-9][a-z]))"
    r"(?:\s*(?:[-+*/(),<>≤≥]|[0-9.]++|(?:sin|cos|tan|log|ln|exp|sqrt)\b|[A-Za-z]{1,2}(?![A-Za-z])))++\s*\Z"
)
"""Letters, numbers and signs alone: ``2x+1``, ``n(n+1)/2``; not ``n/a`` and not ``b-12``."""
_FLATTENED = re.compile(r"\A[^\\]*(?<![A-Za-z_\\^])[A-Za-z][0-9][^\\]*\Z")
"""``x2+1`` may be ``x^2+1``, and is not ``2x+1``."""
_MARKED_UP = re.compile(r"\\(?!(?:text|mathrm|textbf|mathbf|mbox|%|\$|&|,|;|!| )\b)[A-Za-z]+")
_WRAPPERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("`", "`"), ('"', '"'), ("'", "'"))
_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_NAME = re.compile(r"[\s$]*(?:\\\(|\\\[)?\s*[A-Za-z](?:_\{?\w+\}?)?(?:\([A-Za-z]\))?\s*\Z")
_PLAIN = re.compile(r"[\w.,:%$€£/ -]*\Z")


@dataclass(frozen=True)
class AnswerRules:
    """How two answers are compared; the options of :func:`pivotrl.verifiers.answer.verify`."""

    kind: Kind = "auto"
    ordered: bool = False
    units: Literal["exact", "optional"] = "exact"
    relative_tolerance: float = 0.0
    absolute_tolerance: float = 0.0
    timeout_seconds: float = 5.0

    def __post_init__(self) -> None:
        for value, allowed in ((self.kind, get_args(Kind)), (self.units, ("exact", "optional"))):
            if value not in allowed:
                raise InputError(f"answer: {value!r} is not one of {', '.join(allowed)}")


def extract(text: str, rules: Collection[str]) -> list[str]:
    r"""The answers that a message gives, each once, in order.

    Args:
        rules: of :data:`Extraction`. ``boxed``: the content of ``\boxed{}``. ``answer_line``: what follows ``Answer:``
            (``Final answer:``, ``The answer is``, ``####``) on its line. ``whole``: the whole text, where the other
            rules given find nothing.
    """
    found: list[str] = []
    if "boxed" in rules:
        found += _boxed(text)
    if "answer_line" in rules:
        lines = (match[1] for match in _ANSWER_LINE.finditer(text))
        found += [part for line in lines for part in (_boxed(line) if "\\boxed" in line else [line])]
    if "whole" in rules and not found:
        found.append(text)
    return list(dict.fromkeys(filter(None, map(clean, found))))


def clean(text: str) -> str:
    """The answer without the marks around it: maths delimiters, emphasis, quotation marks, a full stop."""
    text = unicodedata.normalize("NFC", text).strip()
    for _ in range(_MAX_MARKS):
        before = text
        if text.endswith((".", "。", "｡")) and not text.endswith(".."):
            text = text[:-1].rstrip()
        if text.endswith("**") and text.count("**") == 1:  # opened before the answer
            text = text[:-2].rstrip()
        for opening, closing in _WRAPPERS:
            inner = text[len(opening) : -len(closing)]
            if inner and text == opening + inner + closing and opening not in inner:
                text = inner.strip()
        if text == before:
            break
    return text


def _boxed(text: str) -> list[str]:
    """The content of each box, in the order in which they close, in one pass."""
    found, opened = [], list[int | None]()
    for brace in _BRACE.finditer(text):
        if brace[0] == "}":
            start = opened.pop() if opened else None
            if start is not None:
                found.append(text[start : brace.start()])
        elif brace[0].endswith("{") and brace[0] != "\\{":
            opened.append(None if brace[0] == "{" else brace.end())
    return found


def compare_answers(expected: str, actual: str, rules: AnswerRules) -> str:
    """``match``, or why the answers differ.

    Reasons: different_answer, different_unit, unreadable_answer, not_evaluated; and of no use either way
    expected_answer_unreadable, unknown_unit, unknown_notation, maths_timeout.

    Raises:
        InputError: expressions are to be compared and math-verify is not installed.
    """
    if " ".join(expected.split()) == " ".join(actual.split()):
        return "match"
    kind = _kind_of(expected) if rules.kind == "auto" else rules.kind
    if rules.kind == "auto" and kind == "text" and tells_half(actual) and read_time(expected) is not None:
        kind = "time"
    if kind == "number":
        return _compare_numbers(expected, actual, rules)
    expected, actual = with_scripts(expected), with_scripts(actual)
    if kind == "date":
        wanted, found = read_date(expected), read_date(actual)
        if isinstance(wanted, date) and (
            found.may_be(wanted) if isinstance(found, Ambiguous) else found is None and may_be_date(actual, wanted)
        ):
            return "unknown_notation"
        return _compared(wanted, found)
    if kind == "time":
        return _compared(read_time(expected), read_time(actual))
    if kind == "choice":
        return _compared(_choice(expected), _choice(actual))
    if kind == "list":
        return _compare_lists(expected, actual, rules)
    if kind == "expression":
        return _compare_expressions(expected, actual, rules)
    if folded(expected) == folded(actual):
        return "match"
    if rules.kind == "auto" and (said := number_in_words(expected)):
        given = read_number(actual)
        if given is not None and not given.unit and given.value == said[0]:
            return "match" if "en" in said[1] else "unknown_notation"
    return "expected_answer_unreadable" if _MARKED_UP.search(expected) else "different_answer"


def _kind_of(expected: str) -> Kind:
    if read_number(expected) is not None:
        return "number"
    if read_date(expected) is not None:
        return "date"
    if tells_half(expected):
        return "time"
    expected = with_scripts(expected)
    is_maths = _MATHS.search(expected) or _ALGEBRA.match(expected)
    return "expression" if is_maths and _maths().prepare(expected) is not None else "text"


def _compared(expected: object, actual: object) -> str:
    if expected is None:
        return "expected_answer_unreadable"
    if actual is None:
        return "unreadable_answer"
    return "match" if expected == actual else "different_answer"


def _compare_numbers(expected: str, actual: str, rules: AnswerRules) -> str:
    wanted, found = read_number(expected), read_number(actual) or _said_number(actual)
    if wanted is None:
        return "expected_answer_unreadable"
    if found is None and may_be_number_words(actual):
        return "unknown_notation"
    if found is None:  # it may be written as an expression: 2^{10}, \sqrt{4}
        is_maths = (_MATHS.search(actual) or _ALGEBRA.match(actual)) and not (wanted.unit and is_unit(wanted.unit))
        return _compare_expressions(expected, actual, rules) if is_maths else "unreadable_answer"
    relative, absolute = Fraction(str(rules.relative_tolerance)), Fraction(str(rules.absolute_tolerance))
    if not same_number(wanted, found, relative=relative, absolute=absolute):
        return "different_answer"
    if same_unit(wanted.unit, found.unit):
        return "match"
    if rules.units == "exact" or "" not in (wanted.unit, found.unit):
        return "different_unit"
    return "match" if is_unit(wanted.unit or found.unit) else "unknown_unit"


def _said_number(text: str) -> Number | None:
    """A number in words, alone or before its unit, if all languages in which it is one agree."""
    if said := number_in_words(text):
        return Number(Fraction(said[0]))
    if has_figures(text):
        return None
    found = {read_number(in_figures(text, language)) for language in LANGUAGES} - {None}
    return found.pop() if len(found) == 1 else None


def _compare_expressions(expected: str, actual: str, rules: AnswerRules) -> str:
    if expected != actual and (flattened := [text for text in (expected, actual) if _FLATTENED.search(text)]):
        return "expected_answer_unreadable" if expected in flattened else "unreadable_answer"
    maths = _maths()
    wanted, found = maths.prepare(expected), maths.prepare(actual)
    if wanted is None or found is None:
        return "expected_answer_unreadable" if wanted is None else "unreadable_answer"
    if "=" in actual and "=" not in expected:
        for side in actual.split("=")[:-1]:  # x = 5 is 5, so is 2 + 3 = 5, and 6 = 5 is not
            if not _NAME.match(side) and _compare_expressions(expected, side, rules) != "match":
                return "different_answer"
    if maths.is_unevaluated(wanted, found):
        return "not_evaluated"
    if not maths.is_read(wanted) or not maths.is_read(found):
        return "unreadable_answer" if maths.is_read(wanted) else "expected_answer_unreadable"
    if maths.other_case(wanted, found):
        return "different_answer"
    return str(maths.compare(wanted, found, rules.timeout_seconds))


def _compare_lists(expected: str, actual: str, rules: AnswerRules) -> str:
    wanted, found = _items(expected), _items(actual)
    if not wanted or not found or len(found) > _MAX_ITEMS:
        return "expected_answer_unreadable" if not wanted else "unreadable_answer"
    if len(wanted) != len(found):
        return "different_answer"
    item = AnswerRules("auto", False, rules.units, rules.relative_tolerance, rules.absolute_tolerance)
    if rules.ordered:
        reasons = (compare_answers(one, other, item) for one, other in zip(wanted, found, strict=True))
        return next((reason for reason in reasons if reason != "match"), "match")
    table = [[compare_answers(one, other, item) for other in found] for one in wanted]
    matched = match_all([[j for j, reason in enumerate(row) if reason == "match"] for row in table])
    if len(matched) == len(wanted):
        return "match"
    return "maths_timeout" if any("maths_timeout" in row for row in table) else "different_answer"


def _items(text: str) -> list[str]:
    """A JSON array, or what semicolons, lines, commas or *and* separate, the first of these that the text has. A comma
    without a blank separates only if none has one."""
    text = text.strip()
    try:
        values = json.loads(text)
        if isinstance(values, list):
            return [value if isinstance(value, str) else json.dumps(value) for value in values]
    except (ValueError, RecursionError):
        pass
    text = re.sub(r"\\left|\\right", "", text)
    for opening, closing in (("\\{", "\\}"), ("{", "}"), ("[", "]"), ("(", ")")):
        if text.startswith(opening) and text.endswith(closing):
            text = text[len(opening) : -len(closing)]
            break
    text = re.sub(r"\\(?:text|mathrm)\{\s*and\s*\}", " and ", text)
    separator = next((mark for mark in (";", "\n", "、", ", ", "，", ",", " and ") if mark in text), ",")  # noqa: RUF001
    split = text.split(separator)
    if not any(" and " in part for part in split[:-1]):  # a, b and c; but rock and roll, jazz and blues
        split[-1:] = split[-1].split(" and ")
    parts = (re.sub(r"^(?:[-*•]|[0-9]+[.)])\s+|^and\s+", "", part.strip()) for part in split)
    return [item for item in map(clean, parts) if item]


def _choice(text: str) -> str | None:
    match = _CHOICE.match(re.sub(r"\\(?:text|mathrm|textbf)\s*\{([^{}]*)\}", r"\1", text))
    if match is None or (match[2] and _OTHER_CHOICE.search(match[2])):
        return None
    return match[1].upper()


def quotes_question(question: str, actual: str, expected: str) -> bool:
    """Whether the answer only repeats what was asked: it stands in the question and the expected one does not.

    Otherwise a task to simplify, or to compute, would be solved by its own text, which is equal to the solution.
    """
    asked, given, wanted = (re.sub(r"[\s$\\{}]", "", text).casefold() for text in (question, actual, expected))
    if given == wanted:
        return False
    return given == asked or (given in asked and wanted not in asked and not _PLAIN.match(actual))


def _maths() -> ModuleType:
    try:
        from pivotrl.judging.answers import maths
    except ModuleNotFoundError as error:
        raise InputError(f"comparing mathematical expressions needs {error.name}: {install_hint('answers')}") from error
    return maths
