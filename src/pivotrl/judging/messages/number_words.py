"""Numbers in words, by packages that know them: ``text2num`` for languages in Latin letters, ``cn2an`` for Chinese.

Without a package, or in another language, nothing is read. Words that are something else too (*neuf* is nine and new,
*sieben* seven and to sieve) are not read within a text.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from typing import Any

LANGUAGES = ("en", "de", "es", "fr", "it", "pt", "nl")
_HOMOGRAPHS = {
    "de": {1, 7, 8, 11},
    "es": {1},
    "fr": {1, 9, 100},
    "it": {1, 6},
    "nl": {1, 8, 11},
    "pt": {1, 100},
    "zh": {1, 10},
}
"""Numbers whose words have another meaning, such as the article *ein*, *sei* (you are) and *十分* (very)."""
_MAX_LENGTH = 100
_MAX_WORDS = 12
_LEAST = 1
"""Up to it a number word alone is an article: *ein*, *une*."""
_FIGURES = re.compile(r"[0-9]+")
_CHINESE = "零〇一二两三四五六七八九十百千万亿"
_CHINESE_RUN = re.compile(rf"(?<![{_CHINESE}0-9.])(?:[0-9]+(?:\.[0-9]+)?[万亿]|[{_CHINESE}]+)(?![{_CHINESE}0-9.])")
_ARABIC_SCALE = re.compile(r"[0-9]+(?:\.[0-9]+)?[万亿]\Z")


def number_in_words(text: str) -> tuple[int, frozenset[str]] | None:
    """(the number that a whole text says in words, the languages that say so); None if it says none, or languages
    disagree (a *billion*)."""
    text = text.strip().casefold()
    if not text or len(text) > _MAX_LENGTH or len(text.split()) > _MAX_WORDS:
        return None
    if text[-1] in _CHINESE:
        value = _chinese(text)
        return None if value is None else (value, frozenset({"zh"}))
    found = {language: value for language in LANGUAGES if (value := _latin(text, language)) is not None}
    return (min(found.values()), frozenset(found)) if len(set(found.values())) == 1 else None


def in_figures(text: str, language: str) -> str:
    """The text with its numbers in figures; unchanged where one of them may be another word."""
    if language == "zh":
        return _CHINESE_RUN.sub(lambda run: _shown(run[0], _chinese(run[0])), text)
    if language in LANGUAGES and len(text) <= 20_000 and (package := _package("text_to_num")):
        made = str(package.alpha2digit(text, language, threshold=_LEAST))
    else:
        return text
    added = set(map(int, _FIGURES.findall(made))) - set(map(int, _FIGURES.findall(text)))
    return text if added & _HOMOGRAPHS.get(language, set()) else made


def may_be_number_words(text: str) -> bool:
    """Whether a text may say a number in words that no package here reads."""
    words = re.split(r"[\s-]+", text.strip())
    if len(words) > 4 or not all(word.isalpha() for word in words):
        return False
    if _package("text_to_num") is None or (text.strip()[-1] in _CHINESE and _package("cn2an") is None):
        return True
    return not text.isascii() and not any("a" <= char <= "\u024f" for char in text.casefold())


def has_figures(text: str) -> bool:
    return _FIGURES.search(text) is not None


@functools.lru_cache(maxsize=1024)
def _latin(text: str, language: str) -> int | None:
    package = _package("text_to_num")
    if package is None or _FIGURES.search(text):
        return None
    try:
        return int(package.text2num(text, language))
    except ValueError:
        return None


@functools.lru_cache(maxsize=1024)
def _chinese(text: str) -> int | None:
    """Only what is written by the rules: *二三* may be two or three, or 23."""
    package = _package("cn2an")
    if package is None:
        return None
    mode = "smart" if _ARABIC_SCALE.match(text) else "strict"
    try:
        value = package.cn2an(text.replace("两", "二").replace("\u3007", "零"), mode)
    except (ValueError, TypeError, KeyError, IndexError):
        return None
    return int(value) if value == int(value) else None


def _shown(text: str, value: int | None) -> str:
    return text if value is None or value in _HOMOGRAPHS["zh"] else str(value)


@functools.cache
def _package(name: str) -> Any:
    return importlib.import_module(name) if importlib.util.find_spec(name) else None
