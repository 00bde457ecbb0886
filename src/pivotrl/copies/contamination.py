"""Find evaluation texts that stand, in whole or in part, in the trajectories to train on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from pivotrl.copies.shingles import Hashes, shingle_hashes, text_of_messages, word_hashes
from pivotrl.records import Trajectory

MIN_WORDS = 5
"""A text of fewer words stands in others by chance."""


@dataclass(frozen=True)
class Overlap:
    """A trajectory and an evaluation text that have words in common."""

    trajectory_id: str
    text_id: str
    share: float
    """Of the text's n-grams, in (0, 1]: 1 when all of it stands in the trajectory, little for a common phrase."""


@dataclass(frozen=True)
class Contamination:
    """What a search found, and which texts it could not judge."""

    overlaps: tuple[Overlap, ...]
    """In the order of the trajectories, then of the texts."""
    too_short: tuple[str, ...]
    """Ids of texts with fewer than ``MIN_WORDS`` words."""

    @property
    def trajectory_ids(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(overlap.trajectory_id for overlap in self.overlaps))

    @property
    def text_ids(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(overlap.text_id for overlap in self.overlaps))


def contamination(trajectories: Iterable[Trajectory], texts: Mapping[str, str], n: int = 13) -> Contamination:
    """Which evaluation texts (id -> text) share ``n`` words in a row with which trajectory.

    Every message of a trajectory is searched, system messages too, for they may hold examples; words are compared
    without regard to case and signs. A text of fewer than ``n`` words is looked for whole.

    Raises:
        ValueError: n is below ``MIN_WORDS``.
    """
    if n < MIN_WORDS:
        raise ValueError(f"n must be at least {MIN_WORDS}, not {n}; shorter sequences are common to all texts")
    ids = list(texts)
    words = [word_hashes(texts[id]) for id in ids]
    too_short = tuple(id for id, words_W in zip(ids, words, strict=True) if len(words_W) < MIN_WORDS)
    by_length: dict[int, _Index] = {}
    for number, words_W in enumerate(words):
        if len(words_W) >= MIN_WORDS:
            by_length.setdefault(min(n, len(words_W)), _Index()).add(number, words_W, n)
    overlaps: list[Overlap] = []
    for trajectory in trajectories:
        words_W = word_hashes(text_of_messages(trajectory.messages))
        shares: dict[int, float] = {}
        for length, index in by_length.items():
            if len(words_W) >= length:
                shares |= index.shares(shingle_hashes(words_W, length))
        overlaps += (Overlap(trajectory.id, ids[number], share) for number, share in sorted(shares.items()))
    return Contamination(tuple(overlaps), too_short)


class _Index:
    """The n-grams of texts, and whose they are."""

    def __init__(self) -> None:
        self._added: list[tuple[Hashes, int]] = []
        self._num_grams: dict[int, int] = {}
        self._hashes: Hashes | None = None

    def add(self, number: int, words_W: Hashes, length: int) -> None:
        grams = np.unique(shingle_hashes(words_W, length))
        self._added.append((grams, number))
        self._num_grams[number] = len(grams)

    def shares(self, grams: Hashes) -> dict[int, float]:
        """Number of a text -> share of its n-grams that are among these; without those that share nothing."""
        if self._hashes is None:
            self._sort()
        assert self._hashes is not None
        grams = np.unique(grams[self._perhaps[grams >> self._shift]])
        starts = self._hashes.searchsorted(grams)
        ends = self._hashes.searchsorted(grams, side="right")
        shared = [self._owners[start:end] for start, end in zip(starts, ends, strict=True) if start < end]
        if not shared:
            return {}
        numbers, counts = np.unique(np.concatenate(shared), return_counts=True)
        pairs = zip(numbers.tolist(), counts.tolist(), strict=True)
        return {number: count / self._num_grams[number] for number, count in pairs}

    def _sort(self) -> None:
        hashes = np.concatenate([added for added, _ in self._added])
        owners = np.concatenate([np.full(len(added), number) for added, number in self._added])
        order = hashes.argsort(kind="stable")
        self._hashes, self._owners = hashes[order], owners[order]
        num_bits = max(
            10, len(hashes).bit_length() + 4
        )  # so that one in 16 other n-grams has to be looked for, or fewer
        self._shift = np.uint64(64 - num_bits)
        self._perhaps = np.zeros(1 << num_bits, np.bool_)
        self._perhaps[hashes >> self._shift] = True
