"""Short texts as answers: what of their spelling does not count."""

from __future__ import annotations

import re
import unicodedata

from pivotrl.judging.messages.free_text import without_case

_ABOVE = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_BELOW = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋ₙ", "0123456789+-n")


def with_scripts(text: str) -> str:
    """Small characters above and below the line as LaTeX: ``x²`` is ``x^{2}``, ``a₁`` is ``a_{1}``."""
    text = re.sub(r"[⁰¹²³⁴-⁹⁺⁻ⁿ]+", lambda found: f"^{{{found[0].translate(_ABOVE)}}}", text)
    return re.sub(r"[₀-₉₊₋ₙ]+", lambda found: f"_{{{found[0].translate(_BELOW)}}}", text)


_BRACED = re.compile(r"([_^])\{(\w)\}")
_NAMED = re.compile(r"\\(?:text|mathrm|textbf)\s*\{([^{}]*)\}")
_AROUND = re.compile(r"\s*([,;()\[\]])\s*|(?<=[0-9])\s*(:)\s*(?=[0-9])")


def folded(text: str) -> str:
    """The text without letter case, braces around one character, and blanks beside brackets, commas and the colon of a
    ratio."""
    text = _NAMED.sub(r"\1", _BRACED.sub(r"\1\2", with_scripts(text)))
    return " ".join(_AROUND.sub(r"\1\2", without_case(unicodedata.normalize("NFC", text))).split())
