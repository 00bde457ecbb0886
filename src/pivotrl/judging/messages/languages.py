"""Detect the language and script of a text, because word rules apply to one language only."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter

from py3langid.langid import MODEL_FILE, LanguageIdentifier

_LEAST_SURE = 0.5
"""Probability of a language below which it is not known."""
_MAX_READ = 1000
"""Characters that are looked at."""
_MAX_FOREIGN = 0.2
"""Share of letters of another script that a text may hold: a name, a formula."""
_NO_WORDS = re.compile(r"```.*?(?:```|\Z)|[^\s\u3000-\u9fff]*[\d_/\\@<>={}][^\s\u3000-\u9fff]*", re.DOTALL)
"""Identifiers, numbers, addresses and code say nothing of the language around them."""


@functools.lru_cache(maxsize=4096)
def language_of(text: str) -> str | None:
    """The code of the language (ISO 639-1) by the identifier of Lui and Baldwin 2012 ("langid.py"), None where it is
    not sure: in a text of a few words, for instance."""
    words = _NO_WORDS.sub(" ", text[:_MAX_READ])
    if not any(map(str.isalpha, words)):
        return None
    language, probability = _identifier().classify(words)
    return str(language) if probability >= _LEAST_SURE else None


@functools.lru_cache(maxsize=4096)
def script_of(text: str) -> str:
    """The script of most letters, ``LATIN`` also where a few are of another: ``CJK``, ``THAI``, ``CYRILLIC``, as the
    names of Unicode characters begin."""
    text = text[:_MAX_READ]
    if text.isascii():
        return "LATIN"
    scripts = Counter(
        "LATIN" if char.isascii() else unicodedata.name(char, "UNKNOWN").partition(" ")[0]
        for char in text
        if char.isalpha()
    )
    others = scripts.total() - scripts["LATIN"]
    if others <= _MAX_FOREIGN * scripts.total():
        return "LATIN"
    del scripts["LATIN"]
    return scripts.most_common(1)[0][0]


@functools.cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def foreign_to_rules(*texts: str) -> dict[str, str]:
    """Why rules for English in Latin letters do not fit some of the texts: ``{"why": "script", "script": "THAI"}`` or
    ``{"why": "language", "language": "de"}``; empty if they may fit. Where a text is too short to
    be sure of, English must be the likeliest language of all of them together."""
    is_sure = True
    for text in texts:
        if (script := script_of(text)) != "LATIN":
            return {"why": "script", "script": script}
        language = language_of(text)
        if language != "en" and (language or any(char.isalpha() and not char.isascii() for char in text)):
            return {"why": "language", "language": language or "unknown"}
        is_sure = is_sure and language == "en"
    if not is_sure and likeliest_language("\n".join(sorted(texts))) not in (None, "en"):
        return {"why": "language", "language": "unknown"}
    return {}


@functools.lru_cache(maxsize=4096)
def likeliest_language(text: str) -> str | None:
    """The likeliest language of a text, however unsure; None if there are no words to tell by."""
    words = _NO_WORDS.sub(" ", text[:_MAX_READ])
    return str(_identifier().classify(words)[0]) if any(map(str.isalpha, words)) else None


def is_english(text: str) -> bool:
    """Whether a text is surely English, in Latin letters."""
    return script_of(text) == "LATIN" and language_of(text) == "en"
