"""Dates, times, amounts and percentages as each language writes them, by the Unicode CLDR (package ``babel``).

Nothing is guessed. A text that the regions of a language would read in two ways (``05/03/2026`` in Spanish, a single
group such as ``1.500``) is not read. Without the package nothing is.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, time
from typing import Any

LANGUAGES = (
    *("de", "es", "fr", "zh", "it", "pt", "nl", "sv", "da", "nb", "fi", "pl"),
    *("cs", "ro", "hu", "tr", "ru", "uk", "el", "id", "vi", "ja", "ko", "ca"),
)
"""Languages, other than English, in which a date alone is looked for."""

_FIELD = re.compile(r"'([^']*)'|([A-Za-z])\2*|([^A-Za-z']+)")
_BLANKS = r"[ \u00a0\u202f]*"
_YEAR = re.compile(r"[0-9]{4}")
_MAX_DATE = 60


@dataclass(frozen=True)
class _Names:
    """One region's names, in small letters."""

    months: dict[str, int]
    weekdays: dict[str, int]
    halves: dict[str, tuple[int, int]]
    """Parts of the day -> the minutes in which they begin and end."""


@dataclass(frozen=True)
class Pattern:
    """A way to write a date or a time."""

    regex: re.Pattern[str]
    names: _Names
    is_numeric: bool
    """Whether the month is a number, with nothing but signs around it."""

    def value(self, match: re.Match[str]) -> date | time | None:
        found = {name: text.casefold() for name, text in match.groupdict().items() if text}
        try:
            return _date(found, self.names) if "year" in found else _time(found, self.names)
        except ValueError:
            return None


def read_local_date(text: str) -> date | None:
    """The date that a whole text is in one of :data:`LANGUAGES`, with its month as a word; None if it is anything
    else, or two languages read it differently."""
    if len(text) > _MAX_DATE or not _YEAR.search(text):
        return None
    found = {
        value
        for language in LANGUAGES
        for pattern in date_patterns(language)
        if not pattern.is_numeric and (match := pattern.regex.fullmatch(text.strip()))
        if isinstance(value := pattern.value(match), date)
    }
    return found.pop() if len(found) == 1 else None


@functools.cache
def is_installed() -> bool:
    return importlib.util.find_spec("babel") is not None


@functools.cache
def date_patterns(language: str) -> tuple[Pattern, ...]:
    """How the regions of a language write a day of a year."""
    return tuple(
        _patterns(language, ("yMMMMd", "yMMMd", "yMd", "yMMMMEEEEd"), ("date_formats", "long", "full", "medium"))
    )


@functools.cache
def time_patterns(language: str) -> tuple[Pattern, ...]:
    """How they write a time of day, to the minute."""
    return tuple(_patterns(language, ("Hm", "hm"), ("time_formats", "short")))


@functools.cache
def amounts(language: str) -> tuple[dict[str, str], frozenset[str]]:
    """(names and signs of currencies in small letters -> their code, signs and names of percent)."""
    from babel.numbers import get_currency_name
    from babel.units import format_unit

    found: dict[str, set[str]] = {}
    percents = {"%"}
    for locale in _locales(language):
        words = [(sign, code) for code, sign in locale.currency_symbols.items()]
        if locale.territory is None:
            words += [(get_currency_name(code, n, locale), code) for code in locale.currencies for n in (1, 2)]
            percents |= {format_unit(n, _PERCENT, "long", locale=locale).lstrip("12").strip() for n in (1, 2)}
        for word, code in words:
            found.setdefault(word.casefold(), set()).add(code)
    one_meaning = {word: codes.pop() for word, codes in found.items() if len(codes) == 1 and word}
    return one_meaning, frozenset(name.casefold() for name in percents)


@functools.cache
def groups_by_blanks(language: str) -> bool:
    """Whether the language writes *1 500*. Elsewhere *Zimmer 2 150 €* may be two numbers."""
    plain = (locale for locale in _locales(language) if locale.territory is None)
    signs = [locale.number_symbols.get("latn", {}).get("group", "") for locale in plain]
    return bool(signs) and all(sign.isspace() for sign in signs)


_PERCENT = "concentr-percent"


# --- what babel knows ---------------------------------------------------------------------------------------------


@functools.cache
def _locales(language: str) -> tuple[Any, ...]:
    """The regions of a language; none where babel is not installed or does not know it."""
    if not is_installed():
        return ()
    from babel import Locale, localedata

    names = sorted(name for name in localedata.locale_identifiers() if name.partition("_")[0] == language)
    return tuple(Locale.parse(name) for name in names)


def _patterns(language: str, skeletons: tuple[str, ...], formats: tuple[str, ...]) -> Iterator[Pattern]:
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for locale in _locales(language):
        names = _names(locale)
        own = getattr(locale, formats[0])
        texts = [locale.datetime_skeletons.get(key) for key in skeletons] + [own.get(key) for key in formats[1:]]
        for text in filter(None, map(_pattern_text, texts)):
            key = (text, (*names.months, *names.halves))
            if key not in seen and (made := _compiled(text, names)) is not None:
                seen.add(key)
                yield made


def _pattern_text(pattern: Any) -> str | None:
    text = getattr(pattern, "pattern", pattern)
    return text if isinstance(text, str) else None


def _names(locale: Any) -> _Names:
    months, weekdays = {}, {}
    for context, width in itertools.product(("format", "stand-alone"), ("wide", "abbreviated")):
        for number, name in (locale.months.get(context, {}).get(width) or {}).items():
            months[name.casefold()] = number
        for number, name in (locale.days.get(context, {}).get(width) or {}).items():
            weekdays[name.casefold()] = number
    halves = {}
    periods = locale.day_periods.get("format", {})
    rules = locale.day_period_rules.get(None, {}) if hasattr(locale, "day_period_rules") else {}
    for width in ("wide", "abbreviated"):
        for period, name in (periods.get(width) or {}).items():
            span = {"am": (0, 720), "pm": (720, 1440)}.get(period) or _span(rules.get(period))
            if span is not None:
                halves[_plain(name)] = span
    return _Names(months, weekdays, halves)


def _span(rules: Any) -> tuple[int, int] | None:
    rule = rules[0] if rules else {}
    if "from" not in rule or "before" not in rule or rule["before"] <= rule["from"]:
        return None
    return rule["from"] // 60, rule["before"] // 60


def _plain(name: str) -> str:
    return re.sub(r"\s", "", name.casefold())


def _any(names: Any) -> str:
    words = sorted(names, key=len, reverse=True)
    return "|".join(_BLANKS.join(map(re.escape, word.replace("\u00a0", " ").split(" "))) for word in words)


_WORD = "0-9A-Za-z_\u00c0-\u024f\u0370-\u04ff"
"""Not ideographs, which have no blanks between words."""
_TEXT = {"MMMM": "month", "MMM": "month", "LLLL": "month", "LLL": "month", "EEEE": "weekday", "EEE": "weekday"}
_DIGITS = {"y": ("year", "[0-9]{4}"), "M": ("number", "[0-9]{1,2}"), "d": ("day", "[0-9]{1,2}")}
_DIGITS |= {"H": ("hour", "[0-9]{1,2}"), "h": ("twelve", "[0-9]{1,2}"), "m": ("minute", "[0-9]{2}")}


def _compiled(pattern: str, names: _Names) -> Pattern | None:
    """None for a pattern with other fields, or a year of two digits."""
    made, literal = "", ""
    for part in _FIELD.finditer(pattern):
        field = part[0]
        if part[2] is None:
            text = part[1] if part[1] is not None else field
            literal += text
            made += "".join(_BLANKS if char.isspace() else re.escape(char) for char in text)
        elif field in _TEXT:
            kind = _TEXT[field]
            made += f"(?P<{kind}>{_any(names.months if kind == 'month' else names.weekdays)})"
        elif field[0] in _DIGITS and field != "yy":
            name, digits = _DIGITS[field[0]]
            made += f"(?P<{name}>{digits})"
        elif field[0] in "aB" and names.halves:
            made += f"(?P<half>{'|'.join(_letters(name) for name in sorted(names.halves, key=len, reverse=True))})"
        else:
            return None
    is_word = "month" in made or any(char.isalpha() for char in literal)
    regex = rf"(?<![{_WORD}.:/-]){made}(?![{_WORD}]|[.:/-][0-9])"
    return Pattern(re.compile(regex, re.IGNORECASE), names, not is_word)


def _letters(name: str) -> str:
    """A part of the day with or without blanks: *p. m.*, *p.m.*"""
    return _BLANKS.join(map(re.escape, name))


def _date(found: dict[str, str], names: _Names) -> date:
    month = names.months[" ".join(found["month"].split())] if "month" in found else int(found["number"])
    day = date(int(found["year"]), month, int(found["day"]))
    if "weekday" in found and names.weekdays[found["weekday"]] != day.weekday():
        raise ValueError("another day of the week")
    return day


def _time(found: dict[str, str], names: _Names) -> time | None:
    minute = int(found["minute"])
    if "hour" in found:
        return time(int(found["hour"]), minute)
    if "half" not in found or not 1 <= int(found["twelve"]) <= 12:
        return None
    begin, end = names.halves[_plain(found["half"])]
    first = int(found["twelve"]) % 12
    fitting = [hour for hour in (first, first + 12) if begin <= 60 * hour + minute < end]
    return time(fitting[0], minute) if len(fitting) == 1 else None
