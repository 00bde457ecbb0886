"""Whether two texts consist of the same words, up to what surely does not change what they say.

Nothing here weighs words: a modal, a quantifier, a negation, a preposition, a sign, the order of names, or a word left
out may turn the meaning, so all of them must be equal. What may differ in any language are blanks, quotation marks,
emphasis, the mark at the end, and a capital at the beginning of a sentence.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from pivotrl.equivalence.free_text import composed

_LIST_LINE = re.compile(r"[ \t]{0,20}(?:[-*•]|([0-9]{1,2})[.)])[ \t]")
_QUOTES = "\"'`“”„‟‘’‚«»「」『』"  # noqa: RUF001
_STRONG = re.compile(r"(?<!\*)\*\*(?!\*)")
_EMPHASIS = re.compile(r"(?<![\w*])\*(?=[^\s*])([^*\n]+)(?<=\S)\*(?![\w*])|(?<!\w)_(?=[^\s_])([^_\n]+)(?<=\S)_(?!\w)")
_STOPS = ".!。！｡…"  # noqa: RUF001
_PAUSES = ",;:、，；：—–"  # noqa: RUF001
_QUESTIONS = "?？؟"  # noqa: RUF001


class Token(NamedTuple):
    text: str
    begins: bool
    """Whether it stands at the beginning of a sentence, where a capital says nothing."""


def same_but_spelling(one: str, other: str) -> bool:
    """Whether two texts, of any language, are the same up to blanks, quotation marks, emphasis, the mark at the end,
    and capitals at the beginning of sentences."""
    if one == other:
        return True
    shorter, longer = sorted(map(len, map(str.split, (one, other))))
    if longer > 2 * shorter + 20 or quoted_blanks(one) != quoted_blanks(other):  # list marks may stand apart
        return False
    return same_tokens(tokens_of(one), tokens_of(other))


def says_nothing(text: str) -> bool:
    """Whether a text is made of punctuation alone."""
    return all(token.text in MARKS for token in tokens_of(text))


_QUOTED_BLANKS = re.compile(r"([\"'`])[^\"'`\n]*?[^\S\n]{2,}[^\"'`\n]*\1")


def quoted_blanks(text: str) -> list[str]:
    """What stands in quotes with several blanks in a row: there they may mean something."""
    return [found[0] for found in _QUOTED_BLANKS.finditer(text)] if "  " in text or "\t" in text else []


MARKS = frozenset({".", ",", "?", "\n"})
_ENDS = frozenset({".", "?", "\n"})
"""After these a capital says nothing; after a comma *Sie* is not *sie*."""


def same_tokens(one: tuple[Token, ...], other: tuple[Token, ...]) -> bool:
    return len(one) == len(other) and all(map(_same, one, other))


def _same(one: Token, other: Token) -> bool:
    if one.text == other.text:
        return True
    if not (one.begins or other.begins):
        return False
    return one.text[1:] == other.text[1:] and one.text[:1].casefold() == other.text[:1].casefold()


@functools.lru_cache(maxsize=1024)
def tokens_of(text: str) -> tuple[Token, ...]:
    """The words and signs of a text, each as it is written."""
    found: list[Token] = []
    begins = True
    for part in _parts(_without_emphasis(composed(text))):
        if part in MARKS:
            begins = part in _ENDS
            if not found or found[-1].text == part == "\n":
                continue
            if found[-1].text in (",", ".", "\n") and part != "?":
                found[-1] = Token(min(found[-1].text, part, key="\n.,".index), True)
                continue
        found.append(Token(part, begins))
        begins = part in _ENDS
    while found and found[-1].text in (".", ",", "\n"):
        found.pop()
    return tuple(found)


def _without_emphasis(text: str) -> str:
    """Without the asterisks and underscores of Markdown; those of code stay (``**kwargs``, ``*.py``, ``__init__``)."""
    if "*" in text:
        inner = text.strip()
        if len(inner) > 4 and inner.startswith("**") and inner.endswith("**"):
            text = inner[2:-2]
        marks = list(_STRONG.finditer(text))
        opening = (text[mark.end() : mark.end() + 1].strip() for mark in marks[::2])
        closing = (text[mark.start() - 1 : mark.start()].strip() for mark in marks[1::2])
        if marks and len(marks) % 2 == 0 and all(opening) and all(closing):
            text = _STRONG.sub("", text)
    return _EMPHASIS.sub(lambda found: found[1] or found[2], text) if "*" in text or "_" in text else text


def _parts(text: str) -> Iterator[str]:
    lines = text.split("\n")
    numbers = [int(mark[1]) for line in lines if (mark := _LIST_LINE.match(line)) and mark[1]]
    is_list = numbers == list(range(1, len(numbers) + 1))
    for line in lines:
        mark = _LIST_LINE.match(line)
        if not line.strip():
            yield "\n"
        elif mark and (is_list or not mark[1]):
            yield "\n"
            line = line[mark.end() :]
        for chunk in line.split():
            yield from _pieces(chunk)


def _pieces(chunk: str) -> Iterator[str]:
    """A chunk between blanks without the marks around it, and what of them means something."""
    start, end = 0, len(chunk)
    while start < end and not _is_word(chunk[start : start + 2]):
        start += 1
    while end > start and not _is_last(chunk[end - 1]):
        end -= 1
    yield from _signs(chunk[:start])
    if start < end:
        yield chunk[start:end]
    tail = chunk[end:]
    if (
        end > start
        and chunk[end - 1].isdigit()
        and tail[:1] in ("'", '"', "\u2032", "\u2033")
        and tail[0] not in chunk[:start]
    ):
        yield tail[0]  # feet and inches
        tail = tail[1:]
    yield from _signs(tail)


def _is_word(text: str) -> bool:
    return text[0].isalnum() or text[0] == "_" or (text[0] in "-+.$€£¥~#@/\\" and text[1:].isalnum())


def _is_last(char: str) -> bool:
    return char.isalnum() or char == "_" or unicodedata.category(char)[0] == "M"


def _signs(text: str) -> Iterator[str]:
    for char in text:
        if char in _STOPS:
            yield "."
        elif char in _PAUSES:
            yield ","
        elif char in _QUESTIONS:
            yield "?"
        elif char not in _QUOTES:
            yield char
