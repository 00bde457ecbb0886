"""Find every occurrence of many anchors in a text, in a few nanoseconds per character.

An anchor is four characters in a row, each given as itself or as a class: ``gh[pousr]_``. The text is looked up in a
table for each of the four, whole, and the four answers are laid over each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

LENGTH = 4
_NUM_GROUPS = 8
_NUM_COARSE = 3
"""Characters of four by which groups are tried: the last rules out little."""
_MAX_ANCHORS = 74
_ATOM = re.compile(r"\[(?:[^\]\\]|\\.)+\]|.")

_Sets = list[frozenset[int]]
"""For each of four characters in a row, the codes allowed there."""


class AnchorFilter:
    """Finds every place where an anchor occurs, and few others.

    Args:
        anchors: at most 74. A class may name characters up to ``\\xff``; others are looked up as a question mark.
    """

    def __init__(self, anchors: Iterable[str]) -> None:
        sets = sorted((_sets(anchor) for anchor in sorted(set(anchors))), key=_frequency, reverse=True)
        assert len(sets) <= _MAX_ANCHORS
        self._coarse = [row.astype(np.uint8).tobytes() for row in _bits(_grouped(sets))]
        self._fine = _bits(sets)

    def places(self, text: str) -> list[int]:
        """Where anchors start, in order: groups of anchors are tried everywhere, each anchor where a group passed."""
        data = text.encode("latin-1", "replace")  # one byte a character, so places in one are places in the other
        num_places = len(data) - LENGTH + 1
        if num_places <= 0:
            return []
        passed = np.frombuffer(data.translate(self._coarse[0]), np.uint8)[:num_places].copy()
        for offset in range(1, _NUM_COARSE):
            passed &= np.frombuffer(data.translate(self._coarse[offset]), np.uint8)[offset : num_places + offset]
        places = (passed != 0).nonzero()[0]
        codes = np.frombuffer(data, np.uint8)
        bits = self._fine[0][codes[places]]
        for offset in range(1, LENGTH):
            bits &= self._fine[offset][codes[places + offset]]
        found: list[int] = places[bits != 0].tolist()
        return found


def _sets(anchor: str) -> _Sets:
    atoms = [re.compile(atom) for atom in _ATOM.findall(anchor)]
    assert len(atoms) == LENGTH, anchor
    return [frozenset(code for code in range(256) if atom.match(chr(code))) for atom in atoms]


def _grouped(anchors: Iterable[_Sets]) -> list[_Sets]:
    """Few groups, each read as one anchor: those that look alike are together, so that few other texts pass."""
    groups = [[frozenset[int]()] * LENGTH for _ in range(_NUM_GROUPS)]
    for anchor in anchors:
        unions = [[a | b for a, b in zip(group, anchor, strict=True)] for group in groups]
        costs = [_frequency(union) - _frequency(group) for union, group in zip(unions, groups, strict=True)]
        best = costs.index(min(costs))
        groups[best] = unions[best]
    return groups


def _frequency(sets: _Sets) -> float:
    """Roughly how often it occurs in a text, most of which is blanks and lower-case letters."""
    product = 1.0
    for codes in sets:
        product *= sum(0.15 if code == 32 else 0.03 if 97 <= code <= 122 else 0.004 for code in codes)
    return product


def _bits(anchors: Iterable[_Sets]) -> NDArray[np.uint64]:
    """(4, 256): a bit of ``[j, c]`` says whether the j-th character of an anchor may be c.

    There are 64 bits; the rarest anchors share one with others that are as rare.
    """
    table = np.zeros((LENGTH, 256), np.uint64)
    for index, anchor in enumerate(anchors):
        bit = np.uint64(1 << (index if index < 64 else index - 10))
        for place, codes in enumerate(anchor):
            table[place, list(codes)] |= bit
    return table
