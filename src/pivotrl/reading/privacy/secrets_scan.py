"""Find keys, tokens, passwords, e-mail addresses and home paths in a text.

Whatever is looked for has four characters in a row by which it can be recognised. All such places are found at once;
the patterns are tried there and nowhere else.

JSON and source code are read as they stand, however deep their escapes are nested: an escape such as ``\\n`` before a
secret is no part of it, one inside (``\\/``, ``\\u002b``) is. A secret starts and ends between escapes and holds no
quote, so it can be replaced in place.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pivotrl.reading.privacy.anchor_filter import AnchorFilter
from pivotrl.reading.privacy.secret_patterns import AFTER_ESCAPE, FILE_ENDINGS, NO_PERSON, NOBODY, PATTERNS, PLAIN_WORDS

CONTEXTUAL = frozenset({"password", "url_password", "secret", "bearer_token", "authorization"})
"""Kinds that are told by the words around them, not by their own shape."""


class Span(NamedTuple):
    """``text[start:end]`` is a secret of this kind."""

    kind: str
    start: int
    end: int


def scan(text: str) -> list[Span]:
    """The secrets of a text, in order, without overlap."""
    places = _FILTER.places(text)
    if not any(text.startswith(("\\u0", "\\/"), place) for place in places):
        return _scan(text, places)
    plain, escape_ends, lengths = _unescaped(text)

    def in_text(position: int) -> int:
        return position + lengths[bisect_right(escape_ends, position)]

    return [Span(span.kind, in_text(span.start), in_text(span.end)) for span in _scan(plain, _FILTER.places(plain))]


_ADDRESS_ANCHORS = (r"[^\s]@[\w\[{$%<?\x80-\xff][^\s]", r"[^\s]%40")
_ESCAPE_ANCHORS = (r"[\\]u0[0-6]", r"[\\]/[\s\S][\s\S]")
_FILTER = AnchorFilter((*_ADDRESS_ANCHORS, *_ESCAPE_ANCHORS, *(pattern.anchor for pattern in PATTERNS)))
_ESCAPE = re.compile(r"\\+(?:u(0[0-6][0-9a-fA-F]{2})|/)")


def _unescaped(text: str) -> tuple[str, list[int], list[int]]:
    """The text with letters and signs in place of their escapes; where those end in it, and by how many characters
    the text is longer before the first of them, after the first, and so on."""
    parts, ends, longer = [], list[int](), [0]
    done = 0
    for match in _ESCAPE.finditer(text):
        code = int(match[1] or "2f", 16)
        if code >= 32:
            parts += [text[done : match.start()], chr(code)]
            longer.append(longer[-1] + len(match[0]) - 1)
            done = match.end()
            ends.append(done - longer[-1])
    return "".join((*parts, text[done:])), ends, longer


def _scan(text: str, places: Sequence[int]) -> list[Span]:
    found: list[Span] = []
    end_of_shape = 0
    for place in places:
        if place < end_of_shape:  # its shape says all there is to say
            continue
        match = _ANY.match(text, place)
        if match is not None and match.lastindex is not None:
            span = Span(_ORDERED[match.lastindex - 1].kind, *match.span(match.lastindex))
            check = _CHECKS.get(span.kind)
            found += [span] if check is None else check(text, place, span)
            if check is None and span.kind not in CONTEXTUAL:
                end_of_shape = span.end
        if text.startswith(("@", "%40"), place + 1):
            found += _address(text, place + 1)
    return _merged(found) if len(found) > 1 else found


def _merged(found: list[Span]) -> list[Span]:
    """Overlapping finds become one, of the kind of the longest; at a tie the shape of a secret says more than words."""
    merged: list[Span] = []
    for span in sorted(found, key=lambda s: s.start):
        if merged and span.start < merged[-1].end:
            last = merged.pop()
            best = max(last, span, key=lambda s: (s.end - s.start, s.kind not in CONTEXTUAL))
            span = Span(best.kind, last.start, max(last.end, span.end))
        merged.append(span)
    return merged


# --- the patterns -------------------------------------------------------------------------------------------------

_START = rf"(?:(?<![A-Za-z0-9\\])|(?<=(?<!\\)\\\\)(?![abefnrtv0])|{AFTER_ESCAPE})"
_ORDERED = sorted(PATTERNS, key=lambda pattern: not pattern.bounded)
_ANY = re.compile(
    "|".join(
        (
            f"{_START}(?:{'|'.join(pattern.regex for pattern in _ORDERED if pattern.bounded)})",
            *(pattern.regex for pattern in _ORDERED if not pattern.bounded),
        )
    )
)
_PLACEHOLDER = re.compile(r"(?i)your|example|change.?me|placeholder|redacted|dummy|insert|x{4}|\*{3}|\.{3}|-goes-here")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*(?:[./-][A-Za-z_]\w*)*[0-9]{0,2}")
_DIGIT = re.compile(r"[0-9]")
_LETTER = re.compile(r"[^\W\d_]")


def _is_placeholder(value: str) -> bool:
    bare = re.sub(r"[^A-Za-z]", "", value).lower()
    return value[0] in "$%{*" or bare in PLAIN_WORDS or _PLACEHOLDER.search(value) is not None


_NAME = re.compile(
    r"(?i)(?:(?P<password>pass(?:word|wd|phrase)|pwd)|(?P<token>token)|secret|"
    r"(?:api|access|secret|private|auth|account|storage|shared|encrypt|encryption|sign|signing|master|client|license|"
    r"app|admin|service|webhook|jwt|session|deploy|consumer|subscription|hmac|root|bot|server)[_.-]?key)\Z"
)
_NOT_IN_NAME = re.compile(r"[^\w.-]")
_NAME_REACH = 48
_PATH = re.compile(r"(?:\.{0,2}|~|[a-z][a-z0-9+.-]*:/)/")
_LETTERS = re.compile(r"[A-Za-z]+")
_NO_SECRET_TOKEN = re.compile(
    r"(?i)(?:page|next|prev|previous|continuation|sync|cursor|pad|eos|bos|unk|sep|cls|mask|stop|special|new|first|last|"
    r"start|end|resume|think|image|sub|add|get|set|per|max|min|num|input|output|prompt|completion|public|publickey)"
    r"[_.-]?token\Z"
)


def _assigned(text: str, place: int, span: Span) -> list[Span]:
    """A value that is assigned to a name, judged by both; ``place`` is that of the last word of the name."""
    quoted = text[span.start - 1] in "\"'`"
    value = text[span.start : span.end]
    if not quoted:
        value = value.rstrip(".:!?")
    if not (_DIGIT.search(value) and _LETTER.search(value)) or _is_placeholder(value) or _PATH.match(value):
        return []
    if not quoted and _IDENTIFIER.fullmatch(value) and ("_" in value or "." in value):
        return []
    word = _LETTERS.match(text, place)
    assert word is not None
    name = _NOT_IN_NAME.split(text[max(0, place - _NAME_REACH) : word.end()])[-1]
    meaning = _NAME.search(name)
    if meaning is None or _NO_SECRET_TOKEN.search(name):
        return []
    between = text[word.end() : span.start]
    if not between.strip(" \\\"'`") and not (quoted and between[0] == " ") and not name.startswith("--"):
        return []
    end = span.start + len(value)
    if meaning["password"]:
        return [Span("password", span.start, end)] if len(value) >= 6 else []
    return [Span("secret", span.start, end)] if len(value) >= 16 else []


_REPLACED_USER = re.compile(r"user_[0-9a-f]{8}")
_PAGE = re.compile(r"(?i)\.(?:html?|php|jsx?|tsx?|css|txt|md|json|ya?ml|py|png|svg|jpg)\Z")


def _home_path(text: str, place: int, span: Span) -> list[Span]:
    """The name of a person in a path; the names of machines' accounts and of pages are nobody's."""
    name = text[span.start : span.end]
    if name.lower() in NOBODY or _REPLACED_USER.fullmatch(name) or _PAGE.search(name) or not _LETTER.search(name):
        return []
    return [span]


_CHECKS: dict[str, Callable[[str, int, Span], list[Span]]] = {"assigned": _assigned, "home_path": _home_path}

# --- addresses ----------------------------------------------------------------------------------------------------

_USER_REACH, _LOCAL_REACH = 256, 66
_USER_PART = re.compile(
    r"://(?:[^\s/:@\"'`<>\\\0]*(?P<colon>:))?"
    r"(?P<password>[^\s/\"'`<>\\\0]*)\Z"
)
_LOCAL = re.compile(rf"(?:(?<![\w.+%\\-])|(?<=(?<!\\)\\\\)(?![abefnrtv0])|{AFTER_ESCAPE})[\w.+-]{{1,64}}\Z")
_DOMAIN = re.compile(r"(?:@|%40)((?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+([^\W\d_]{2,24}))(?![\w(\[])")
_RESERVED = re.compile(r"(?i)(?:\A|\.)(?:example(?:\.(?:com|org|net|edu))?|test|invalid|localhost)\Z")


def _address(text: str, at: int) -> list[Span]:
    """The password, or the e-mail address, that the ``@`` at this place belongs to."""
    low = max(0, at - _USER_REACH)
    user = _USER_PART.search(text, low, at) if text.rfind("/", low, at) >= 0 else None
    if user is not None:
        value = user["password"]
        plain = not value or _is_placeholder(value) or "..." in value
        if plain or not (user["colon"] or (len(value) >= 20 and _DIGIT.search(value))):
            return []
        return [Span("url_password", user.start("password"), at)]
    domain = _DOMAIN.match(text, at)
    if domain is None or _RESERVED.search(domain[1]) or domain[2].lower() in FILE_ENDINGS:
        return []
    local = _LOCAL.search(text, max(0, at - _LOCAL_REACH), at)
    if local is None or local[0].lower() in NO_PERSON or not _LETTER.search(domain[1].rpartition(".")[0] + local[0]):
        return []
    return [Span("email", local.start(), domain.end())]
