"""Free text compared by rule: normalised, or by shared words with a guard over what the text pins down."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from pivotrl.judging.messages.facts import Facts

_MAX_MARKS = 30
"""Combining marks in a row (the stream-safe bound of UAX 15): sorting more of them takes quadratic time."""
_BLANKS = re.compile(r"\s+")


@functools.lru_cache(maxsize=4096)
def normalised(text: str) -> str:
    """NFC in small letters, runs of blanks made one, surrounding ones left out. Characters that do not show count."""
    return _BLANKS.sub(" ", composed(without_case(composed(text)))).strip()


def without_case(text: str) -> str:
    """The text in small letters. Not case-folded: that makes *Maße* and *Masse* one word."""
    return text.lower().replace("\u03c2", "\u03c3")  # the two small sigmas


def composed(text: str) -> str:
    """The text in NFC; one with an endless run of combining marks stays as it is."""
    if text.isascii():
        return text
    run = 0
    for char in text:
        run = run + 1 if unicodedata.combining(char) else 0
        if run > _MAX_MARKS:
            return text
    return unicodedata.normalize("NFC", text)


def same_text(expected: str | None, actual: str | None) -> bool:
    """Whether two texts are the same, surrounding blanks apart. No text equals empty text."""
    return (expected or "").strip() == (actual or "").strip()


def conflict(one: Facts, other: Facts) -> str | None:
    """The first kind of fact in which two texts differ, None when in none."""
    if one.hidden != other.hidden:
        return "hidden_characters"
    if one.found != other.found and (kind := _first_difference(one, other)):
        return kind
    if (one.openers - set(other.words)) or (other.openers - set(one.words)):
        return "name"
    return "direction" if opposed(one, other) else None


def _first_difference(one: Facts, other: Facts) -> str | None:
    for mine, theirs in zip(one.found, other.found, strict=False):
        if mine != theirs:
            return mine[0]
    longer = max(one.found, other.found, key=len)
    shortest = min(len(one.found), len(other.found))
    return longer[shortest][0] if len(longer) > shortest else None


def opposed(one: Facts, other: Facts) -> bool:
    """Whether a word of both texts is bound or negated in one way here and in another there: ``from A``, ``to A``."""
    if (one.negated - other.negated) & set(other.words) or (other.negated - one.negated) & set(one.words):
        return True
    mine, theirs = _ways(one), _ways(other)
    return any(
        (ways.total() == theirs[word].total() and ways != theirs[word]) or ways.keys().isdisjoint(theirs[word])
        for word, ways in mine.items()
        if word in theirs
    )


def _ways(found: Facts) -> dict[str, Counter[str]]:
    ways: dict[str, Counter[str]] = {}
    for word, way in found.directions:
        ways.setdefault(word, Counter())[way] += 1
    return ways


def order_f1(one: Sequence[str], other: Sequence[str]) -> float:
    """F1 of the longest common subsequence, in [0, 1]; 1 for two empty sequences."""
    total = len(one) + len(other)
    return 2 * _longest_common(one, other) / total if total else 1.0


def _longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence, a machine word at a time (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for i, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << i
    every = (1 << len(one)) - 1
    row = every
    for word in other:
        met = row & places.get(word, 0)
        row = ((row + met) | (row - met)) & every
    return len(one) - row.bit_count()
