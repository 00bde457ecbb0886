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

from pivotrl.judging.messages.free_text import composed

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
    """Whether it begins a sentence, where a capital means nothing."""


def same_but_spelling(one: str, other: str) -> bool:
    """Whether two texts, of any language, are the same up to blanks, quotation marks, emphasis, the mark at the end,
    and capitals at the beginning of sentences."""
    if one == other:
        return True
    shorter, longer = sorted(map(len, map(str.split, (one, other))))
    if longer > 2 * shorter + 20 or quoted_signs(one) != quoted_signs(other):  # list marks may be separate
        return False
    if num_sayings(one) != num_sayings(other):
        return False
    return same_tokens(tokens_of(one), tokens_of(other))


def says_nothing(text: str) -> bool:
    """Whether a text is made of punctuation alone."""
    return all(token.text in MARKS for token in tokens_of(text))


_QUOTED_BLANKS = re.compile(r"([\"'`])[^\"'`\n]*?[^\S\n]{2,}[^\"'`\n]*\1")


_SAYING = re.compile(
    r"(?<!\w)[\"“”„‟]([^\"“”„‟\n]+)[\"“”‟](?!\w)|[«»]([^«»\n]+)[«»]|「([^「」\n]+)」|『([^『』\n]+)』"
    r"|(?<![\w'’])['‘‚]([^'‘‚’\n]+)['‘’](?!\w)"  # noqa: RUF001
)
_SEVERAL_WORDS = re.compile(r"\w\W+\w|[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]{4}")


def num_sayings(text: str) -> int:
    """How many quotations of several words a text holds, itself apart. Without its marks, what somebody said may
    become what the speaker says: *the manager said "I refunded you"*."""
    found = (match for match in _SAYING.finditer(text) if match[0] != text.strip(" \t\n.!。"))
    return sum(1 for match in found if _SEVERAL_WORDS.search(next(filter(None, match.groups()))))


_CALLED = re.compile(r"[!！]+")  # noqa: RUF001
_CLOSING = "\"'`”’»」』"  # noqa: RUF001
_SECRETS = re.compile(
    r"\b(?:pass ?(?:words?|codes?|phrases?)|pins?|codes?|keys?|[pP]assw(?:ort|örter)|[kK]ennw(?:ort|örter)|contraseñas?"
    r"|claves?|códigos?|senha|mots? de passe)\b|密码|密碼|口令|暗号|验证码",
    re.IGNORECASE,
)


def quoted_signs(text: str) -> list[str]:
    """The signs that belong to what a text quotes: several blanks in a row within quotes, and an exclamation mark
    that may be part of a password: within quotes, behind a digit, after a colon, or where the text names one."""
    found = [blanks[0] for blanks in _QUOTED_BLANKS.finditer(text)] if "  " in text or "\t" in text else []
    if "!" not in text and "！" not in text:  # noqa: RUF001
        return found
    is_secret = _SECRETS.search(text) is not None
    for called in _CALLED.finditer(text):
        before = text[max(0, called.start() - 80) : called.start()].split() or [""]
        word, earlier = before[-1], before[-2:-1]
        is_quoted = text[called.end() : called.end() + 2].strip()[:1] in tuple(_CLOSING)
        if is_secret or is_quoted or word[-1:].isdigit() or any(part.endswith((":", "：")) for part in earlier):  # noqa: RUF001
            found.append(word + "!" * len(called[0]))
    return found


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
    rest = one.text[1:]
    if rest != other.text[1:] or one.text[:1].lower() != other.text[:1].lower():
        return False
    if not rest:
        return one.text.lower() in _WORDS_OF_ONE
    return all(char in "'\u2019-" or (char.isalpha() and not char.isupper()) for char in rest)


_WORDS_OF_ONE = frozenset("aeiouyàèéóú")
"""Of any other letter, ``x`` and ``X`` are two names; so are codes, which have digits or capitals inside."""


@functools.lru_cache(maxsize=1024)
def tokens_of(text: str) -> tuple[Token, ...]:
    """The words and signs of a text, each as it is written."""
    found: list[Token] = []
    begins = True
    for part in _parts(_without_emphasis(_typeset(composed(text)))):
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


_APOSTROPHE = re.compile(r"(?<=[^\W\d_])[\u2019\u02bc](?=[^\W\d_])")
_OPENING = re.compile(r"(?<![^\s])(?<![:：] )[¿¡]+(?=[^\W\d_])")  # noqa: RUF001
_IDEOGRAPH = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_BLANK_BETWEEN = re.compile(rf"(?<=[{_IDEOGRAPH}])[ \t]+(?=[A-Za-z0-9])|(?<=[A-Za-z0-9])[ \t]+(?=[{_IDEOGRAPH}])")
_PADDED = re.compile(r"(?<=[0-9]年)0(?=[1-9]月)|(?<=月)0(?=[1-9]日)")
_CODE_LIKE = re.compile(rf"`|[A-Za-z0-9_{_IDEOGRAPH}][./\\_@=][A-Za-z_{_IDEOGRAPH}]")
_EAST_ASIAN = str.maketrans("「」『』０１２３４５６７８９\u00a0\u202f", "“”‘’0123456789  ")  # noqa: RUF001


def _typeset(text: str) -> str:
    """One spelling for what typesetting alone decides: apostrophes and Spanish marks that open a sentence; and among
    ideographs the kind of quotation marks, the width of figures, zeros in front of months and days, and blanks around
    Latin words. Text with paths or code keeps its blanks, text that names a secret everything."""
    if text.isascii() or _SECRETS.search(text):
        return text
    text = _OPENING.sub("", _APOSTROPHE.sub("'", text))
    if re.search(f"[{_IDEOGRAPH}]", text) is None:
        return text
    text = _PADDED.sub("", text.translate(_EAST_ASIAN))
    return text if _CODE_LIKE.search(text) else _BLANK_BETWEEN.sub("", text)


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
        for place, chunk in enumerate(line.split()):
            if place and chunk in (".", ".."):
                yield f" {chunk}"  # a folder: git add .
            else:
                yield from _pieces(chunk)


_SHORT_YEAR = re.compile(r"[0-9]{2}(?![0-9])")
"""``'25`` is a year, ``25`` may be a day."""


def _pieces(chunk: str) -> Iterator[str]:
    """A chunk between blanks without the marks around it, and what of them means something."""
    start, end = 0, len(chunk)
    while start < end and not _is_word(chunk[start : start + 2]):
        start += 1
    while end > start and not _is_last(chunk[end - 1]):
        end -= 1
    yield from _signs(chunk[:start])
    if start and chunk[start - 1] in "'\u2018\u2019" and _SHORT_YEAR.match(chunk[start:]) and chunk[-1] not in _QUOTES:
        yield "'"
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
