"""Whether two texts of a language other than English differ only in how they write numbers, dates and amounts."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from datetime import date, time

from pivotrl.judging.messages.cldr import Pattern, amounts, date_patterns, groups_by_blanks, is_installed, time_patterns
from pivotrl.judging.messages.languages import language_of, likeliest_language, script_of
from pivotrl.judging.messages.number_words import in_figures
from pivotrl.judging.messages.same_words import same_but_spelling

_MAX_LENGTH = 20_000
_NUMBER = (
    r"(?<![\w.,])[0-9]{1,3}(?:[\u00a0\u202f\u2009 ][0-9]{3}){1,5}(?:,[0-9]{1,2})?(?![\w.,]*[0-9])"
    r"|(?<![0-9])[0-9]{1,15}(?:[.,][0-9]{1,2})?"
)
_QUOTED = re.compile(r"`[^`\n]+`|[\"“”„«»‹›「『][^\"“”„«»‹›「」『』\n]+[\"“”«»‹›」』]|'[^'\n]*[0-9][^'\n]*'")  # noqa: RUF001
"""What somebody shall read or write letter by letter."""
_GROUPED = re.compile(r"(?<![\w.,\u00a0\u202f\u2009])[0-9]{1,3}(?:[\u00a0\u202f\u2009][0-9]{3})+(?![0-9])")


def same_up_to_notation(one: str, other: str) -> bool:
    """Whether the texts are the same words once numbers are written in figures, and dates, times of day, percentages
    and amounts of money in one way, as the CLDR says of their language. Days and months as numbers count only in a
    language that is sure."""
    if max(len(one), len(other)) > _MAX_LENGTH or not _may_be_same(one, other):
        return False
    both = "\n".join(sorted((one, other)))
    language = "zh" if script_of(both) == "CJK" and not _KANA.search(both) else likeliest_language(both)
    if language in (None, "en") or _quoted(one) != _quoted(other):
        return False
    is_sure = language_of(both) == language
    mine, theirs = (_in_one_way(text, language, is_sure) for text in (one, other))
    return (mine, theirs) != (one, other) and same_but_spelling(mine, theirs)


_KANA = re.compile(r"[\u3040-\u30ff]")
"""Ideographs alone are Chinese, or read alike: the identifier takes short texts for one of its dialects."""


def _quoted(text: str) -> list[str]:
    return [quoted[0][1:-1].strip() for quoted in _QUOTED.finditer(text)]


def _may_be_same(one: str, other: str) -> bool:
    """A quick test: one has figures, and few words differ. Loading a language takes a few hundred milliseconds."""
    mine, theirs = (frozenset(map(str.casefold, _WORD.findall(text))) for text in (one, other))
    return len(mine ^ theirs) <= _MOST_WORDS and any(_DIGIT.search(text) for text in (one, other))


_WORD = re.compile(r"[^\W\d_]{2,}")
_DIGIT = re.compile(r"[0-9]")
_MOST_WORDS = 12
"""Names of days and months, currencies and parts of the day in a text with a few dates and amounts."""


@functools.lru_cache(maxsize=1024)
def _in_one_way(text: str, language: str, is_sure: bool) -> str:
    text = in_figures(text, language)
    if not is_installed():
        return text
    dates = [pattern for pattern in date_patterns(language) if is_sure or not pattern.is_numeric]
    text = _replaced(text, dates)
    text = _replaced(text, time_patterns(language))
    text = _amount(language).sub(functools.partial(_shown, language), text)
    return _GROUPED.sub(lambda found: re.sub(r"\D", "", found[0]), text)


def _replaced(text: str, patterns: Iterable[Pattern]) -> str:
    """Each date or time in ISO 8601; one that the regions of the language read differently stays as it is."""
    spans: dict[tuple[int, int], set[date | time | None]] = {}
    for pattern in patterns:
        for match in pattern.regex.finditer(text):
            value = pattern.value(match)
            if value is not None or not pattern.is_numeric:
                spans.setdefault(match.span(), set()).add(value)
    made, end = "", 0
    for start, stop in sorted(spans, key=lambda span: (span[0], -span[1])):
        values = spans[start, stop] - {None}
        if start >= end:
            value = values.pop() if len(values) == 1 else None
            shown = (
                text[start:stop]
                if value is None
                else value.isoformat("minutes")
                if isinstance(value, time)
                else str(value)
            )
            made += text[end:start] + shown
            end = stop
    return made + text[end:]


@functools.cache
def _amount(language: str) -> re.Pattern[str]:
    currencies, percents = amounts(language)
    words = "|".join(re.escape(word) for word in sorted({*currencies, *percents}, key=len, reverse=True))
    number = _NUMBER if groups_by_blanks(language) else _NUMBER.replace("\\u2009 ]", "\\u2009]")
    return re.compile(rf"({number})[ \u00a0\u202f]?({words})(?![\w$€£¥])", re.IGNORECASE)


def _shown(language: str, found: re.Match[str]) -> str:
    """``1 500,00 €`` and ``1500 euros`` as ``1500 EUR``. A lone group (``1.500``) is not touched."""
    currencies, percents = amounts(language)
    number, unit = re.sub(r"[^\d,.]", "", found[1]).replace(",", "."), found[2].casefold()
    whole, _, rest = number.partition(".")
    if unit in percents:
        return f"{number}%"
    return f"{whole if rest in ('', '0', '00') else f'{whole}.{rest:0<2}'} {currencies[unit]}"
