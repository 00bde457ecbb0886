"""Hashes of the words of a text and of their sequences, vectorised and the same on every machine.

A word is a run of letters and digits, without regard to ASCII case; an ideograph or syllable of East Asian writing,
which sets no blanks, starts a word of its own. Dimension suffix: _W words.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pivotrl.records import Message

Hashes = NDArray[np.uint64]

_CHUNK = 1 << 15
"""Bytes hashed at once: what is computed for them stays in the processor's cache."""
_LONGEST_WORD = 1 << 12
"""Bytes after which a word is cut."""
_EAST_ASIAN = range(0xE3, 0xEE)
"""First bytes of U+3000 to U+DFFF in UTF-8."""


def text_of_messages(messages: Iterable[Message]) -> str:
    """Everything that is said, thought and called, as one text."""
    found = []
    for message in messages:
        found += [message.content or "", message.reasoning or ""]
        found += [text for call in message.tool_calls for text in (call.name, call.arguments)]
    return "\n".join(found)


def word_hashes(text: str) -> Hashes:
    """(num_words,) one hash a word."""
    data = text.encode("utf-8", "surrogatepass").translate(_FOLDED)
    found = [_hashed(data[start:end]) for start, end in _chunks(data)]
    return np.concatenate(found) if found else np.empty(0, np.uint64)


def shingle_hashes(words_W: Hashes, length: int) -> Hashes:
    """One hash for each ``length`` words in a row, in order; for all of the words when there are fewer; none without
    words."""
    if not len(words_W):
        return words_W
    length = min(length, len(words_W))
    num_shingles = len(words_W) - length + 1
    total = words_W[:num_shingles].copy()
    for place in range(1, length):
        total *= _ODD
        total += words_W[place : num_shingles + place]
    return mixed(total)


def mixed(values: Hashes) -> Hashes:
    """Spread over all 64 bits; a bijection (the finaliser of splitmix64)."""
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


# --- words --------------------------------------------------------------------------------------------------------

_ODD = np.uint64(0x9E3779B97F4A7C15)
_FOLDED = bytes(code if code >= 128 or chr(code).isalnum() else 0 for code in bytes(range(256)).lower())
_POWERS = np.cumprod(np.full(_CHUNK + _LONGEST_WORD, _ODD), dtype=np.uint64)
_INVERSES = np.cumprod(np.full(len(_POWERS), np.uint64(pow(int(_ODD), -1, 1 << 64))), dtype=np.uint64)


def _chunks(data: bytes) -> list[tuple[int, int]]:
    """Bounds of parts that end between words."""
    bounds, start = [], 0
    while start < len(data):
        end = min(start + _CHUNK, len(data))
        if end < len(data):
            blank = data.find(b"\0", end, end + _LONGEST_WORD)
            end = end + _LONGEST_WORD if blank < 0 else blank
        bounds.append((start, min(end, len(data))))
        start = end
    return bounds


def _hashed(data: bytes) -> Hashes:
    """A word's hash is a polynomial in its bytes: the difference of two sums over the text, shifted to power 0."""
    codes = np.frombuffer(data, np.uint8)
    inside = np.zeros(len(codes) + 2, np.bool_)
    inside[1:-1] = codes != 0
    first = inside[1:-1] & ~inside[:-2]
    last = inside[1:-1] & ~inside[2:]
    if not data.isascii():
        own = (codes >= _EAST_ASIAN.start) & (codes < _EAST_ASIAN.stop)
        first |= own
        last[:-1] |= own[1:] & inside[1:-2]
    starts, ends = first.nonzero()[0], last.nonzero()[0] + 1
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(codes * _POWERS[: len(codes)], out=sums[1:])
    words_W: Hashes = sums[ends] - sums[starts]
    words_W *= _INVERSES[starts]
    return mixed(words_W)
