"""A final answer compared with the spellings of the right one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pivotrl.judging.answers.answers import AnswerRules, compare_answers, extract, quotes_question

MAX_CHARACTERS = 50_000
_MOST = 10
_UNDECIDED = ("expected_answer_unreadable", "unknown_unit", "unknown_notation", "maths_timeout")
_ARTICLE = re.compile(r"(?:the|an?)\s+(?=\S)", re.IGNORECASE)


def judge_answer(accepted: Sequence[str], text: str, question: str = "") -> tuple[bool | None, str]:
    """(whether a message gives the right answer, reason). None: it cannot be decided.

    The answer is what follows ``Answer:`` on its line, or stands in ``\\boxed{}``, else the whole message. It must
    be one answer: all that the message gives must be right. A leading article does not count.

    Args:
        accepted: spellings of the right answer, each right alone.

    Reasons: match; no_answer, too_long, several_answers, quotes_question, and those of
    :func:`pivotrl.judging.answers.answers.compare_answers`.
    """
    if len(text) > MAX_CHARACTERS:
        return False, "too_long"
    found = extract(text, ("boxed", "answer_line", "whole"))
    if not found:
        return False, "no_answer"
    reasons = [_best([_compared(right, given) for right in accepted]) for given in found[:_MOST]]
    if len(found) > 1 and (len(found) > len(reasons) or any(reason != "match" for reason in reasons)):
        return False, "several_answers"
    if all(reason == "match" for reason in reasons):
        quoted = all(quotes_question(question, given, right) for given in found for right in accepted)
        return (False, "quotes_question") if quoted else (True, "match")
    return (None if reasons[0] in _UNDECIDED else False), reasons[0]


def _best(reasons: Sequence[str]) -> str:
    return next((reason for wanted in (("match",), _UNDECIDED) for reason in reasons if reason in wanted), reasons[0])


def _compared(right: str, given: str) -> str:
    reason = compare_answers(right, given, AnswerRules())
    if reason == "different_answer" and _ARTICLE.match(given + right):
        return compare_answers(_ARTICLE.sub("", right, count=1), _ARTICLE.sub("", given, count=1), AnswerRules())
    return reason
