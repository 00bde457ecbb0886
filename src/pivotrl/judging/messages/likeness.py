"""Whether two free texts say the same: equal, different, or not to be decided by words."""

from __future__ import annotations

from typing import Literal

from pivotrl.judging.messages.english import same_in_english
from pivotrl.judging.messages.facts import HARD, Facts, facts
from pivotrl.judging.messages.free_text import conflict, order_f1
from pivotrl.judging.messages.languages import foreign_to_rules, is_english
from pivotrl.judging.messages.notations import same_up_to_notation
from pivotrl.judging.messages.same_words import same_but_spelling

Likeness = Literal["equal", "different", "undecided"]

_MAX_WORDS = 20_000
"""Words of a text that are compared one by one; longer texts are equal when identical."""


def likeness(expected: str, actual: str, threshold: float) -> Likeness:
    """Whether two texts say the same, judged by their words. Symmetric.

    ``equal``: they consist of the same words (:mod:`pivotrl.judging.messages.same_words`). ``different``: they share
    too few words in the same order, or differ in a number, amount, date, identifier, address, capitalised name, quoted
    string, negation or one side of a common opposition (approve, deny), in their order, in how a word is bound (from,
    to), or in characters that do not show; in a language other than English, or another script, only where they differ
    in a number, an identifier and the like. ``undecided``: anything else, for a plain word may turn the meaning.

    The share is the F1 of the longest common subsequence of words (ROUGE-L: Lin 2004).

    Args:
        threshold: least F1, in [0, 1].
    """
    if same_but_spelling(expected, actual):
        return "equal"
    if same_in_english(expected, actual) and is_english(f"{expected}\n{actual}"):
        return "equal"
    one, other = facts(expected), facts(actual)
    if max(len(one.words), len(other.words)) > _MAX_WORDS:
        return "different"
    differing = conflict(one, other)
    if foreign_to_rules(expected, actual):
        kinds = {differing, conflict(other, one)}
        if "number" in kinds and _counted(one) != _counted(other):
            return "undecided"  # it may be written in words, which are not read
        if kinds <= HARD | {"hidden_characters"}:
            return "undecided" if same_up_to_notation(expected, actual) else "different"
        return "undecided"
    if differing is not None or order_f1(one.words, other.words) < threshold:
        return "different"
    return "undecided"


def _counted(found: Facts) -> int:
    return sum(kind == "number" for kind, _ in found.found)
