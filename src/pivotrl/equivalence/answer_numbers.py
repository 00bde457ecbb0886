"""Numbers as people write them, read exactly: ``1,234.50``, ``3/4``, ``1 1/2``, ``$5``, ``50%``, ``3 km``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_MAX_LENGTH = 400
_MAX_EXPONENT = 400

_CURRENCIES = {"$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR", "US$": "USD"}
_CODES = frozenset({"USD", "EUR", "GBP", "JPY", "INR", "CHF", "CAD", "AUD", "NZD", "CNY", "SEK", "NOK", "DKK", "KRW"})
_CURRENCY_WORDS = {"dollar": "USD", "euro": "EUR", "pound sterling": "GBP"}

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?:[ \u00a0\u202f_'][0-9]{3})+|[0-9]+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+|\s*[x*\u00d7]\s*10\^\{{?[+-]?[0-9]+\}}?)?"
_SIGN = r"(?P<sign>[+-]?)\s*"
_CURRENCY = r"(?P<currency>US\$|[$€£¥₹]|[A-Z]{3}\s)?\s*"
_NUMBER = re.compile(
    rf"{_SIGN}{_CURRENCY}(?P<sign_after>[+-]?)"
    rf"(?:(?P<whole>[0-9]+)\s+(?P<part>[0-9]+/[0-9]+)|(?P<top>{_DECIMAL})\s*/\s*(?P<bottom>{_DECIMAL})|(?P<plain>{_DECIMAL}))"
    r"\s*(?P<unit>%|[€£₹]|[^\d\s].{0,30})?\Z"
)
_UNIT = re.compile(r"(?:[A-Za-zµμΩ°²³][A-Za-zµμΩ°²³ ]*(?:[/·*^-]+[A-Za-z0-9²³]+)*|%)\Z")
_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{([^{}]*)\}|([0-9]))\s*(?:\{([^{}]*)\}|([0-9]))")
_MARKUP = re.compile(r"\\(?:text|mathrm|mbox|textbf|mathbf)\s*\{([^{}]*)\}")


@dataclass(frozen=True)
class Number:
    value: Fraction
    unit: str = ""
    """As written, plurals apart; a currency is its code; empty for none, and for a percentage, which is a number."""


def read_number(text: str) -> Number | None:
    """The number that the whole text is; None when it is anything else.

    Thousands are grouped by commas, blanks, underscores or apostrophes, in threes; the decimal mark is a point.
    ``1,5`` is no number, since it may be meant either way. ``50%`` is 1/2.
    """
    if len(text) > _MAX_LENGTH:
        return None
    match = _NUMBER.match(_plain(text))
    if match is None:
        return None
    currency, unit = match["currency"], (match["unit"] or "").strip()
    if currency and (unit and unit != "%"):
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
    if unit == "%":
        return None if currency else Number(value / 100)
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
    text = _MARKUP.sub(r"\1", text)
    text = _FRACTION.sub(lambda found: f"{found[1] or found[2]}/{found[3] or found[4]}", text)
    return text.strip().removesuffix(".").rstrip()


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
    if len(unit) > 3:  # a word; short ones are symbols, where mW is not MW
        unit = unit.casefold().removesuffix("s")
    return _CURRENCY_WORDS.get(unit, unit)
