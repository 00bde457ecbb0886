"""The words of a shell command without their quotes, so that ``'a b'``, ``"a b"`` and ``a\\ b`` are one word.

A word becomes a tuple of parts: literal text, a wildcard, an expansion (in quotes or not). Where quoting changes more
than that (brackets, braces, a tilde, the history), the word stays as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple


class NotUnderstood(ValueError):
    """A command is outside what is understood here; it is compared as text. The message says why."""


class Part(NamedTuple):
    """A piece of a word."""

    kind: Literal["text", "wildcard", "bare", "quoted", "raw", "assignment"]
    """``bare`` and ``quoted`` are expansions without and within double quotes; ``raw`` is a whole word as written;
    ``assignment`` is the name, with ``=`` or ``+=``, before a value."""
    value: Any


Word = tuple[Part, ...]

_METACHARACTERS = b" \t\n;&|<>()"
_ESCAPABLE_IN_QUOTES = b'$`"\\'
_BRACE_EXPANSION = re.compile(rb"\{[^{}]*(?:,|\.\.)")
_NO_HISTORY = b" \t\n=(\"'"
"""What may follow ``!`` without making it a reference to the history."""
_STRANGE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\xa0\xad\u061c\u115f\u1160\u1680\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f"
    "\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffd\ud800-\udfff\U000e0000-\U000e0fff]"
)
"""Control characters, blanks that are none to a shell, and what is not seen on a screen."""
_SELF_REFERENCE = re.compile(r"\$\{?(?:_(?![A-Za-z0-9_])|BASH_|LINENO)|POSIXLY_CORRECT")
"""Variables that hold how a command is written, or change how options are read."""
_PARAMETER = re.compile(rb"[A-Za-z0-9_@*#?$!({\[-]")
"""What makes a dollar sign before it the start of an expansion."""


def refuse_strange(text: str) -> None:
    """Refuse a command that holds what is not seen, or that depends on how it is written.

    Raises:
        NotUnderstood: it does.
    """
    if _STRANGE.search(text):
        raise NotUnderstood("control or invisible characters")
    if _SELF_REFERENCE.search(text):
        raise NotUnderstood("depends on how it is written")


def literal(word: Word) -> str | None:
    """The text of a word in which nothing is expanded, else None."""
    return word[0].value if len(word) == 1 and word[0].kind == "text" else None


def text_word(text: str) -> Word:
    return (Part("text", text),)


def is_one(word: Word) -> bool:
    """Whether the word is one argument, or the names of files, whatever the variables are."""
    return all(
        part.kind in ("text", "wildcard") or (part.kind == "quoted" and "@" not in str(part.value)) for part in word
    )


def is_fixed(word: Word) -> bool:
    """Whether besides its first character is known, so that it surely is an option, or surely none."""
    return word[0].kind == "text" and word[0].value != "" and is_one(word)


def read_word(source: bytes, start: int, end: int, expansions: Mapping[int, tuple[int, Any]]) -> Word:
    """The word at ``source[start:end]``.

    Args:
        expansions: where an expansion begins -> (where it ends, its placeholder in the word).

    Raises:
        NotUnderstood: the bytes are not one word.
    """
    parts: list[Part] = []
    text = bytearray()
    raw = has_empty_quotes = False
    quote_start: int | None = None
    position, before = start, b"="  # a tilde expands at the start of a word and after = and :

    def flush() -> None:
        if text:
            parts.append(Part("text", text.decode()))
            text.clear()

    while position < end:
        char = source[position : position + 1]
        follower = source[position + 1 : position + 2] if position + 1 < end else b""
        in_quotes = quote_start is not None
        step = 1
        if position in expansions:
            stop, value = expansions[position]
            flush()
            parts.append(Part("quoted" if in_quotes else "bare", value))
            step = stop - position
        elif char in b"$`" and (char == b"`" or _PARAMETER.match(follower) or (not in_quotes and follower == b'"')):
            raise NotUnderstood("an expansion that was not found")
        elif char == b"$" and follower == b"'" and not in_quotes:
            stop = source.find(b"'", position + 2, end)
            if stop < 0 or b"\\" in source[position:stop]:
                raise NotUnderstood("escapes in $'...'")
            text += source[position + 2 : stop]
            has_empty_quotes |= stop == position + 2
            step = stop + 1 - position
        elif char == b"\\":
            step = 2
            if not follower:
                raise NotUnderstood("a backslash at the end")
            if follower == b"\n":
                pass
            elif in_quotes and follower not in _ESCAPABLE_IN_QUOTES:
                text += char + follower
            else:
                text += follower
        elif char == b'"':
            if not in_quotes:
                quote_start = position
            else:
                has_empty_quotes |= position == (quote_start or 0) + 1
                quote_start = None
        elif char == b"!" and follower and follower not in _NO_HISTORY:
            raw = True
            text += char
        elif in_quotes:
            text += char
        elif char == b"'":
            stop = source.find(b"'", position + 1, end)
            if stop < 0:
                raise NotUnderstood("a quote that is not closed")
            text += source[position + 1 : stop]
            has_empty_quotes |= stop == position + 1
            step = stop + 1 - position
        elif char in _METACHARACTERS:
            raise NotUnderstood("an operator inside a word")
        elif char in b"*?":
            flush()
            parts.append(Part("wildcard", char.decode()))
        else:
            raw |= char == b"[" or (char == b"~" and before in (b"=", b":"))
            raw |= char == b"{" and _BRACE_EXPANSION.search(source, position, end) is not None
            text += char
        before = char
        position += step
    if quote_start is not None or position > end:
        raise NotUnderstood("a quote that is not closed")
    flush()
    if raw or (has_empty_quotes and any(part.kind == "bare" for part in parts)):
        return (Part("raw", source[start:end].decode()),)
    return tuple(parts) or text_word("")
