"""Numbers as people write them, read exactly: ``1,234.50``, ``1 1/2``, ``$5``, ``50%``, ``3 km``, ``7 million``."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

_MAX_LENGTH = 400
_MAX_EXPONENT = 400

_CURRENCIES = {"$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR", "US$": "USD"}
_CODES = frozenset({"USD", "EUR", "GBP", "JPY", "INR", "CHF", "CAD", "AUD", "NZD", "CNY", "SEK", "NOK", "DKK", "KRW"})
_CURRENCY_WORDS = {"dollar": "USD", "euro": "EUR", "pound sterling": "GBP"}
_SCALES = {"dozen": 12, "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PERCENT = re.compile(r"(?:%|per ?cent\b|pct\b)\s*", re.IGNORECASE)

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?:[ \u00a0\u202f_'][0-9]{3})+|[0-9]+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+|\s*[x*\u00d7]\s*10\^\{{?[+-]?[0-9]+\}}?)?"
_SIGN = r"(?P<sign>[+-]?)\s*"
_CURRENCY = r"(?P<currency>US\$|[$€£¥₹]|[A-Z]{3}\s)?\s*"
_NUMBER = re.compile(
    rf"{_SIGN}{_CURRENCY}(?P<sign_after>[+-]?)"
    rf"(?:(?P<whole>[0-9]+)\s+(?P<part>[0-9]+/[0-9]+)|(?P<top>{_DECIMAL})\s*/\s*(?P<bottom>{_DECIMAL})|(?P<plain>{_DECIMAL}))"
    r"\s*(?P<unit>%|[€£₹]|[^\d\s].{0,30})?\Z"
)
_UNIT = re.compile(r"(?:[A-Za-zµμΩÅ°][A-Za-zµμΩÅ°²³ ]*(?:[/·*^-]+[A-Za-z0-9²³]+)*|%)\Z")
_MIXED = re.compile(
    r"(?<![\w.,^_}])([0-9]{1,9})\s*\\[dtc]?frac\s*(?:\{\s*([0-9]{1,9})\s*\}|([0-9]))\s*(?:\{\s*([0-9]{1,9})\s*\}|([0-9]))"
)
"""``2\\frac{1}{2}``: two and a half, where the part is less than one."""
_PERIOD = re.compile(r"([+-]?)([0-9]{0,30})\.([0-9]{0,30})\\overline\s*\{([0-9]{1,30})\}\Z")
_BASED = re.compile(r"[+-]?0(?:[xX][0-9a-fA-F]{1,99}|[bB][01]{1,99}|[oO][0-7]{1,99})\Z")
_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{([^{}]*)\}|([0-9]))\s*(?:\{([^{}]*)\}|([0-9]))")
_MARKUP = re.compile(r"\\(?:text|mathrm|mbox|textbf|mathbf)\s*\{([^{}]*)\}")


@dataclass(frozen=True)
class Number:
    value: Fraction
    unit: str = ""
    """As written; a currency is its code; empty for none, and for a percentage, which is a number."""


def read_number(text: str) -> Number | None:
    """The number that the whole text is; None if it is anything else.

    Thousands are grouped by commas, blanks, underscores or apostrophes, in threes; the decimal mark is a point.
    ``1,5`` is ambiguous and therefore not a number. ``50%`` is 1/2, ``2\\frac{1}{2}`` is 5/2, and
    ``7 million`` is 7,000,000; ``0x1F`` is 31.
    """
    if len(text) > _MAX_LENGTH:
        return None
    text = _plain(text)
    if based := _BASED.match(text):
        return Number(Fraction(int(based[0], 0)))
    if period := _PERIOD.match(text):
        sign, whole, head, digits = period.groups()
        tail = Fraction(int(digits), (10 ** len(digits) - 1) * 10 ** len(head))
        return Number((-1 if sign == "-" else 1) * (Fraction(f"{whole or 0}.{head or 0}") + tail))
    match = _NUMBER.match(text)
    if match is None:
        return None
    currency, unit = match["currency"], (match["unit"] or "").strip()
    scale, _, rest = unit.partition(" ")
    factor = Fraction(_SCALES.get(scale.casefold(), 1))
    unit = rest.strip() if factor != 1 else unit
    if percent := _PERCENT.match(unit):
        factor, unit = factor / 100, unit[percent.end() :]
        if unit or currency:
            return None
    if currency and unit:
        return None
    try:
        if match["whole"]:
            value = Fraction(int(match["whole"])) + Fraction(match["part"])
        elif match["top"]:
            value = _decimal(match["top"]) / _decimal(match["bottom"])
        else:
            value = _decimal(match["plain"])
    except (ValueError, ZeroDivisionError):
        return None
    if match["sign"] and match["sign_after"]:
        return None
    if "-" in (match["sign"], match["sign_after"]):
        value = -value
    value *= factor
    name = _currency(currency.strip()) if currency else _unit(unit)
    return None if name is None else Number(value, name)


def same_number(
    expected: Number, actual: Number, *, relative: Fraction = Fraction(0), absolute: Fraction = Fraction(0)
) -> bool:
    """Whether the values are equal, or no further apart than the larger of the tolerances allows. Not the units.

    Args:
        relative: allowed distance as a part of the expected value.
        absolute: allowed distance.
    """
    return abs(expected.value - actual.value) <= max(absolute, relative * abs(expected.value))


def _plain(text: str) -> str:
    text = text.strip().replace("\u2212", "-").replace("\\$", "$").replace("\\%", "%")
    text = text.replace("\\,", "").replace("\\!", "").replace("{,}", ",").replace("\\ ", " ").replace("~", " ")
    text = text.replace("\\times", "*").replace("\\cdot", "*")
    text = re.sub(r"\s*\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degree", "°", _MARKUP.sub(r"\1", text))
    text = _MIXED.sub(_mixed, text)
    text = re.sub(r"(?<=[0-9])([¼-¾⅐-⅞])", r" \1", text)
    text = "".join(unicodedata.normalize("NFKC", c).replace("\u2044", "/") if c in _VULGAR else c for c in text)
    text = _FRACTION.sub(lambda found: f"{found[1] or found[2]}/{found[3] or found[4]}", text)
    return text.strip().removesuffix(".").rstrip()


_VULGAR = frozenset("¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞")


def _mixed(found: re.Match[str]) -> str:
    whole, top, bottom = found[1], found[2] or found[3], found[4] or found[5]
    return f"{whole} {top}/{bottom}" if int(top) < int(bottom) else found[0]


def _decimal(text: str) -> Fraction:
    text = re.sub(r"\s*[x*\u00d7]\s*10\^\{?([+-]?[0-9]+)\}?", r"e\1", text)
    digits, _, exponent = re.sub(r"[, \u00a0\u202f_']", "", text).lower().partition("e")
    if abs(int(exponent or 0)) > _MAX_EXPONENT:
        raise ValueError("an exponent out of range")
    return Fraction(digits if digits[-1] != "." else digits[:-1]) * Fraction(10) ** int(exponent or 0)


def _currency(name: str) -> str | None:
    return _CURRENCIES.get(name) or (name if name in _CODES else None)


def _unit(unit: str) -> str | None:
    if not unit or unit in _CURRENCIES:
        return _CURRENCIES.get(unit, "")
    if not _UNIT.match(unit):
        return None
    return _CURRENCY_WORDS.get(unit.casefold().removesuffix("s"), unit)
