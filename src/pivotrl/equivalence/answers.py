"""Final answers: found in a message by explicit rules, and compared as what they are."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from types import ModuleType
from typing import Literal, get_args

from pivotrl.equivalence.answer_dates import read_date
from pivotrl.equivalence.answer_numbers import read_number, same_number
from pivotrl.equivalence.pairing import match_all
from pivotrl.extras import install_hint
from pivotrl.protocols import InputError

Kind = Literal["auto", "number", "expression", "date", "choice", "list", "text"]
Extraction = Literal["boxed", "answer_line", "whole"]

_MAX_ITEMS = 200
_MAX_MARKS = 8
"""Marks taken off an answer; more would cost quadratic time."""
_ANSWER_LINE = re.compile(
    r"^[ \t>*_#-]*(?:(?:(?:my|the|so the) )?(?:final |correct )?answer(?: is)?[ \t]*(?:[:=]|(?<=is))|####)"
    r"(?:\*\*|__)?[ \t]*(\S.*)$",
    re.IGNORECASE | re.MULTILINE,
)
_CHOICE = re.compile(r"(?:(?:option|choice)\s+)?[(\[]?([A-Za-z])(?:[)\].:]+(?:\s+(.*))?)?\Z", re.DOTALL | re.IGNORECASE)
_OTHER_CHOICE = re.compile(r"\b(?:or|and|not)\b|(?:^|\W)[A-Z][).:\]]|\([A-Za-z]\)")
_MATHS = re.compile(r"[\\^=√π∞]|\*\*|\b(?:sqrt|pi)\b")
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
                raise InputError(f"answer: {value!r} is none of {', '.join(allowed)}")


def extract(text: str, rules: Collection[str]) -> list[str]:
    r"""The answers that a message gives, each once, in order.

    Args:
        rules: of :data:`Extraction`. ``boxed``: what stands in ``\boxed{}``. ``answer_line``: what follows ``Answer:``
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
        if text.endswith(".") and not text.endswith(".."):
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
    """What stands in each box, in the order in which they close. One pass, whatever the text."""
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
    expected_answer_unreadable, maths_timeout.

    Raises:
        InputError: expressions are to be compared and math-verify is not installed.
    """
    kind = _kind_of(expected) if rules.kind == "auto" else rules.kind
    if kind == "number":
        return _compare_numbers(expected, actual, rules)
    if kind == "date":
        wanted, found = read_date(expected), read_date(actual)
        return _compared(wanted, found)
    if kind == "choice":
        return _compared(_choice(expected), _choice(actual))
    if kind == "list":
        return _compare_lists(expected, actual, rules)
    if kind == "expression":
        return _compare_expressions(expected, actual, rules)
    return _compared(_folded(expected), _folded(actual))


def _kind_of(expected: str) -> Kind:
    if read_number(expected) is not None:
        return "number"
    if read_date(expected) is not None:
        return "date"
    return "expression" if _MATHS.search(expected) and _maths().prepare(expected) is not None else "text"


def _compared(expected: object, actual: object) -> str:
    if expected is None:
        return "expected_answer_unreadable"
    if actual is None:
        return "unreadable_answer"
    return "match" if expected == actual else "different_answer"


def _compare_numbers(expected: str, actual: str, rules: AnswerRules) -> str:
    wanted, found = read_number(expected), read_number(actual)
    if wanted is None:
        return "expected_answer_unreadable"
    if found is None:  # it may be written as an expression: 2^{10}, \sqrt{4}
        is_maths = _MATHS.search(actual) and wanted.unit == ""
        return _compare_expressions(expected, actual, rules) if is_maths else "unreadable_answer"
    relative, absolute = Fraction(str(rules.relative_tolerance)), Fraction(str(rules.absolute_tolerance))
    if not same_number(wanted, found, relative=relative, absolute=absolute):
        return "different_answer"
    left_out = rules.units == "optional" and "" in (wanted.unit, found.unit)
    return "match" if wanted.unit == found.unit or left_out else "different_unit"


def _compare_expressions(expected: str, actual: str, rules: AnswerRules) -> str:
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
    same = maths.same_expression(wanted, found, rules.timeout_seconds)
    return "maths_timeout" if same is None else "match" if same else "different_answer"


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
    separator = next((mark for mark in (";", "\n", ", ", ",", " and ") if mark in text), ",")
    parts = (re.sub(r"^(?:[-*•]|[0-9]+[.)])\s+|^and\s+", "", part.strip()) for part in text.split(separator))
    return [item for item in map(clean, parts) if item]


def _choice(text: str) -> str | None:
    match = _CHOICE.match(re.sub(r"\\(?:text|mathrm|textbf)\s*\{([^{}]*)\}", r"\1", text))
    if match is None or (match[2] and _OTHER_CHOICE.search(match[2])):
        return None
    return match[1].upper()


def _folded(text: str) -> str:
    text = re.sub(r"\\(?:text|mathrm|textbf)\s*\{([^{}]*)\}", r"\1", unicodedata.normalize("NFKC", text))
    return " ".join(text.casefold().split())


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
        from pivotrl.equivalence import answer_maths  # sympy takes a while to import
    except ModuleNotFoundError as error:
        raise InputError(f"comparing mathematical expressions needs {error.name}: {install_hint('answers')}") from error
    return answer_maths
