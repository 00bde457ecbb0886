"""Find trajectories that are copies of earlier ones, without keeping their texts.

Of each trajectory there remain a hash of every beginning (about 20 bytes a message) and a sketch of its words (about
500 bytes). Everything is hashed by content, so the same trajectories in the same order give the same answers anywhere.
Dimension suffixes: _M messages, _B bins of a sketch, _L bands.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pivotrl.reading.duplicates.hash_table import HashTable
from pivotrl.reading.duplicates.shingles import Hashes, mixed, shingle_hashes, text_of_messages, word_hashes
from pivotrl.records import Message, Trajectory

SHINGLE_WORDS = 5
_NUM_BINS = 256
_NUM_BANDS = 8
_MAX_SAME_BAND = 4
"""Trajectories remembered under one band; of more that share it, each shares others too."""
_RECALL = 0.99
"""Share of pairs just at the threshold that are compared at all."""


Kind = Literal["exact", "prefix", "extension", "near"]


@dataclass(frozen=True)
class Duplicate:
    """How a trajectory relates to an earlier one."""

    kind: Kind
    """exact: the same messages. prefix: the beginning of the earlier one. extension: the earlier one is the beginning
    of this one, and so holds nothing that this one does not. near: about the same words in the same order."""
    other: str
    """Id of the earlier one."""
    num_messages: int = 0
    """How many of the first messages are the same, unless it is only a near copy."""
    similarity: float = 1.0
    """Of near ones, the estimated share of common shingles (Jaccard): give or take 0.04, for a text of fewer than a
    hundred words 0.1."""


class DuplicateFinder:
    """Compares every trajectory with all before it.

    Messages are the same when role, text, reasoning and calls are, whatever the ids of the calls; and when both may
    become candidates, or neither. So the rows of a set of pivots, which repeat a context in which nothing is to be
    learned, are no beginnings of one another.

    Near ones share at least ``threshold`` of their shingles: five words in a row of anything but system and pinned
    messages. Of pairs just at the threshold about half are found; 0.05 above it almost all, 0.1 below it none.

    Args:
        threshold: in (0, 1].
    """

    def __init__(self, threshold: float = 0.9) -> None:
        if not 0.0 < threshold <= 1.0:
            raise ValueError(f"threshold must lie in (0, 1], not {threshold!r}")
        self._threshold = threshold
        self._num_rows = _rows_of_a_band(threshold)
        self._ids: list[str] = []
        self._lengths = array("I")
        self._beginnings = HashTable()
        self._bands = HashTable()
        self._sketches_B = np.empty((64, _NUM_BINS), np.uint8)

    def add(self, trajectory: Trajectory) -> Duplicate | None:
        """What the trajectory repeats; None when nothing. All but exact copies and beginnings are remembered."""
        beginnings_M = _beginnings(trajectory)
        if not beginnings_M:
            return None
        extended: int | None = None
        known = 0
        for key in beginnings_M:  # where one is unknown, so are all that are longer
            owner = self._beginnings.get(key)
            if owner is None:
                break
            known += 1
            if self._lengths[owner] == known:
                extended = owner
        if owner is not None:
            return Duplicate("prefix" if extended != owner else "exact", self._ids[owner], known)
        number = len(self._ids)
        self._ids.append(trajectory.id)
        self._lengths.append(len(beginnings_M))
        self._beginnings.add_all(beginnings_M[known:], number)
        near = self._near(_smallest_hashes(trajectory), number)
        if extended is None:
            return near
        return Duplicate("extension", self._ids[extended], self._lengths[extended])

    def _near(self, bins_B: Hashes | None, number: int) -> Duplicate | None:
        """The earlier trajectory most like this one, if it is like enough; this one is remembered."""
        if number == len(self._sketches_B):
            self._sketches_B = np.concatenate((self._sketches_B, np.empty_like(self._sketches_B)))
        if bins_B is None:
            return None
        self._sketches_B[number] = sketch_B = (bins_B >> np.uint64(16)).astype(np.uint8)
        candidates: set[int] = set()
        for keys in _band_keys(bins_B, self._num_rows):
            for key in keys:
                owner = self._bands.get(key)
                if owner is None:
                    self._bands.add(key, number)
                    break
                candidates.add(owner)
        if not candidates:
            return None
        earlier = sorted(candidates)
        equal = (self._sketches_B[earlier] == sketch_B).mean(axis=1)
        similarity = (equal - 1 / 256) / (1 - 1 / 256)  # two different bytes are equal once in 256 times
        best = int(similarity.argmax())
        if similarity[best] < self._threshold:
            return None
        return Duplicate("near", self._ids[earlier[best]], similarity=float(similarity[best]))

    @property
    def num_bytes(self) -> int:
        """Memory taken, the ids apart."""
        return self._sketches_B.nbytes + self._beginnings.num_bytes + self._bands.num_bytes + 4 * len(self._lengths)


# --- beginnings ---------------------------------------------------------------------------------------------------


def _beginnings(trajectory: Trajectory) -> list[int]:
    """(M,) a hash of the first message, of the first two, and so on."""
    state = f"{trajectory.context_window} {trajectory.pinned_messages or ''}".strip().encode()
    found = []
    for index, message in enumerate(trajectory.messages):
        learned = message.role == "assistant" and index not in trajectory.excluded
        learned = learned and index >= trajectory.pinned_messages
        state = hashlib.blake2b(state + _serialized(message, learned), digest_size=16).digest()
        found.append(int.from_bytes(state[:8], "little") or 1)
    return found


def _serialized(message: Message, learned: bool) -> bytes:
    """Different messages give different bytes: the lengths say where one text ends and the next starts."""
    content, reasoning = message.content or "", message.reasoning or ""
    if not reasoning and not message.tool_calls:  # most messages
        return f"{message.role} {learned:d} {len(content)} 0:{content}".encode("utf-8", "surrogatepass")
    head = f"{message.role} {learned:d} {len(content)} {len(reasoning)}"
    calls = [text for call in message.tool_calls for text in (call.name, call.arguments)]
    for text in calls:
        head += f" {len(text)}"
    return f"{head}:{content}{reasoning}{''.join(calls)}".encode("utf-8", "surrogatepass")


# --- sketches -----------------------------------------------------------------------------------------------------


def _smallest_hashes(trajectory: Trajectory) -> Hashes | None:
    """(B,) MinHash by one permutation: shingles fall into bins, of each bin the smallest hash counts; None without
    words. An empty bin takes that of the first full one in an order of its own, the same for every text."""
    own = trajectory.messages[trajectory.pinned_messages :]
    text = text_of_messages(message for message in own if message.role != "system")
    shingles = shingle_hashes(word_hashes(text), SHINGLE_WORDS)
    if not len(shingles):
        return None
    bins_B = np.full(_NUM_BINS, _EMPTY)
    np.minimum.at(bins_B, (shingles >> np.uint64(56)).astype(np.intp), shingles << np.uint64(8))
    full_B = bins_B != _EMPTY
    empty = (~full_B).nonzero()[0]
    place = full_B[_ORDERS[empty, :_FEW]].argmax(axis=1)
    missed = ~full_B[_ORDERS[empty, place]]
    if missed.any():
        place[missed] = full_B[_ORDERS[empty[missed]]].argmax(axis=1)
    bins_B[empty] = bins_B[_ORDERS[empty, place]]
    return bins_B


_EMPTY = np.uint64(2**64 - 1)
_NUMBERS_B: Hashes = np.arange(_NUM_BINS, dtype=np.uint64)
_ORDERS = mixed(_NUMBERS_B * np.uint64(_NUM_BINS) + _NUMBERS_B[:, None]).argsort(axis=1).astype(np.uint8)
"""For each bin all bins in some order."""
_FEW = 16
"""Bins among which a full one is looked for first: of a text of a hundred words nearly always enough."""


def _rows_of_a_band(threshold: float) -> int:
    """The most bins a band may have, so that pairs at the threshold agree in one of the bands with ``_RECALL``."""
    each = 1.0 - (1.0 - _RECALL) ** (1.0 / _NUM_BANDS)
    most = _NUM_BINS // _NUM_BANDS
    return most if threshold == 1.0 else max(1, min(most, int(math.log(each) / math.log(threshold))))


def _band_keys(bins_B: Hashes, num_rows: int) -> list[list[int]]:
    """(L, places) the keys under which trajectories that agree in a band are remembered, the earliest first."""
    num_used = _NUM_BANDS * num_rows
    rows = mixed(bins_B[:num_used] + _NUMBERS_B[:num_used]).reshape(_NUM_BANDS, num_rows)
    bands = rows.sum(axis=1, keepdims=True, dtype=np.uint64)
    found: list[list[int]] = (mixed(bands + _NUMBERS_B[:_MAX_SAME_BAND]) | np.uint64(1)).tolist()
    return found
