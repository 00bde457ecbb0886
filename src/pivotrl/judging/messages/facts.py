"""The facts in a text: numbers, amounts, dates, identifiers, names, negations, and their order.

A heuristic for English, built to notice too much rather than too little: two texts with the same facts may still
differ, and two that say the same may show different ones. Time grows linearly with the text.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal

from pivotrl.judging.messages.dates import moment, number
from pivotrl.judging.messages.word_lists import (
    CURRENCIES,
    DIRECTIONS,
    FUNCTION_WORDS,
    MONTHS,
    NEGATIONS,
    NUMBERS,
    POLES,
    ROLES,
    TENS_AND_UNITS,
    words,
)

Fact = tuple[str, str]
"""(kind, value). Kinds: number, money, percent, date, year, moment, address (URL or e-mail), identifier, capitals
(letters only, ``JFK``), term (letters joined by a dot or slash), name, quote, negation, pole."""

HARD = frozenset({"number", "money", "percent", "date", "year", "moment", "address", "identifier", "quote"})
"""Kinds that a text must not make up."""

_THOUSANDS = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])")
_QUOTE = re.compile(r'"([^"\n]{1,300})"|“([^”\n]{1,300})”')
_TOKEN = re.compile(r"https?://[^\s<>\"]+|[^\s,;!?()\[\]{}<>\"“”|*`=]+|[!?\n]")
_AMOUNT = re.compile(r"([-+]?)([$€£¥]?)([-+]?[0-9.]+)(%?)\Z")
_ORDINAL = re.compile(r"([0-9]{1,9})(?:st|nd|rd|th)\Z")
_CLOCK = re.compile(r"([0-9]{1,2})(?::([0-9]{2}))?(?::([0-9]{2}))?([ap]m)?\Z")
_JOINT = re.compile(r"\w[./:\\_]\w")
_MARKS = "-:'\u2018\u2019\u2013\u2014"
_LEFT, _RIGHT = _MARKS, _MARKS + "./\\"
"""Taken off the ends of a word; curly quotes and long dashes among them."""
_COUNTED = re.compile(r"([0-9]{1,9})-([a-z]{3,})\Z")
"""``24-hour``"""
_RANGE = re.compile(r"([0-9]{1,3})[-\u2013]([0-9]{1,3})\Z")
"""``5-7``, where the second is more: ``5 to 7``."""
_LONGEST = 200
"""Characters of a token that is looked at closely; a longer one is an identifier."""


@dataclass(frozen=True)
class Facts:
    """What was found in a text."""

    words: tuple[str, ...]
    """All words in order, case-folded; numbers, dates and times in one spelling."""
    found: tuple[Fact, ...]
    """In order, with repetitions."""
    openers: frozenset[str]
    """Words that begin a sentence with a capital: names, or not."""
    directions: tuple[tuple[str, str], ...]
    """(word, how it is bound): ``("boston", "from")``, with repetitions."""
    negated: frozenset[str]
    """The words right after a negation, function words apart."""
    hidden: frozenset[str]
    """Characters that do not show: zero width, direction marks, controls."""


@functools.lru_cache(maxsize=4096)
def facts(text: str) -> Facts:
    """The facts of a text. The last few thousand texts are remembered."""
    hidden = frozenset(char for char in set(text) if unicodedata.category(char) in _HIDDEN and char not in "\n\t\r")
    reader = _Reader()
    for quoted in _QUOTE.finditer(text):
        reader.found.append(("quote", " ".join((quoted[1] or quoted[2]).casefold().split()).strip(" .,:;!?")))
    plain = _THOUSANDS.sub(lambda found: found[0].replace(",", ""), text)
    for token in _TOKEN.findall(plain):
        reader.take(token)
    return Facts(
        tuple(reader.words),
        tuple(reader.found),
        frozenset(reader.openers),
        tuple(reader.directions),
        frozenset(reader.negated),
        hidden,
    )


_HIDDEN = frozenset({"Cf", "Cc", "Co", "Cn", "Cs"})


class _Reader:
    """Goes through the tokens of a text once."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.found: list[Fact] = []
        self.openers: set[str] = set()
        self.directions: list[tuple[str, str]] = []
        self.negated: set[str] = set()
        self._begins = True
        self._direction = ""
        self._negating = False
        self._month: tuple[str, int] | None = None
        """A month just read, as its word and number: the next number may be its day."""

    def take(self, token: str) -> None:
        word = token.lstrip(_LEFT).rstrip(_RIGHT)
        if "://" in word:
            word = word.rstrip(",;)]!?*`" + _RIGHT)
        if len(word) > 2 and word[0] == word[-1] == "_":
            word = word[1:-1]
        if token.startswith("-") and word[:1].isdigit():
            word = f"-{word}"
        if not word or not (word[0].isalnum() or word[-1].isalnum() or word in CURRENCIES):
            self._begins = self._begins or token in {"!", "?", "\n", "."}
            return
        low = word.casefold().replace("\u2019", "'")
        if counted := _COUNTED.match(low):
            self.take(counted[1])
            self.take(counted[2])
            return
        if (span := _RANGE.match(low)) and int(span[1]) < int(span[2]):
            for part in (span[1], "to", span[2]):
                self.take(part)
            return
        month, self._month = self._month, None
        num_found = len(self.found)
        self._read(word, low, month)
        read = self.found[num_found:]
        self.words.append(read[0][1] if read and read[0][0] in ("number", "date", "moment") else low)
        if low not in _ARTICLES or (word == "A" and not self._begins):
            if self._direction and low not in DIRECTIONS:
                self.directions.append((low, self._direction))
            self._direction = DIRECTIONS.get(low, "")
        if read and read[0][0] == "negation":
            self._negating = True
        elif low not in FUNCTION_WORDS and self._negating:
            self.negated.add(low)
            self._negating = False
        self._begins = token[-1] in ".:"

    def _read(self, word: str, low: str, month: tuple[str, int] | None) -> None:
        if len(word) > _LONGEST:
            self._add("identifier", word)
        elif low.startswith(("http://", "https://")) or "@" in word[1:-1]:
            self._add("address", word)
        elif any(char.isdigit() for char in word):
            self._read_digits(word, low, month)
        elif low in ("am", "pm") and self.words and self.words[-1][:1].isdigit():
            self._read_half(low)
        elif low in NEGATIONS or low.endswith("n't") or low.startswith("non-"):
            self._add("negation", "not")
        elif low in POLES:
            self._add("pole", POLES[low])
        elif low in NUMBERS or low in TENS_AND_UNITS:
            self._add("number", NUMBERS.get(low) or TENS_AND_UNITS[low])
        elif low in CURRENCIES:
            self._add("money", CURRENCIES[low])
        elif low in MONTHS and word[0].isupper():
            day = number(self.words[-1].rstrip("stndrh")) if self.words else None
            if day is not None and self.found and self.found[-1] == ("number", _plain(day)) and 1 <= day <= 31:
                self.found[-1] = ("date", f"{MONTHS[low]:02}-{int(day):02}")  # 24 May
            else:
                self._month = (low, MONTHS[low])
        elif _JOINT.search(word):
            self._add("identifier" if "_" in word or word.startswith("/") else "term", word)
        elif word.isupper() and (len(word) > 1 or (word != "I" and not self._begins)):
            self._add("capitals", word)
        elif word[0].isupper() and low.partition("'")[0] not in FUNCTION_WORDS:
            if not self._begins:
                self._add("name", low.removesuffix("'s"))
            elif low not in ROLES:
                self.openers.add(low.removesuffix("'s"))

    def _read_digits(self, word: str, low: str, month: tuple[str, int] | None) -> None:
        if not word.isascii() and word[0] not in CURRENCIES:
            self._add("identifier", word)
        elif (plain := _ORDINAL.match(low)) or (plain := _AMOUNT.match(low)):
            sign, symbol, digits, percent = plain.groups() if plain.re is _AMOUNT else ("", "", plain[1], "")
            value = number(sign + digits if sign else digits)
            if value is None:
                self._add("identifier", word)
            elif self.found[-1:] and self.found[-1][0] == "date" and re.fullmatch("(?:19|20)[0-9]{2}", low):
                self._add("year", low)  # May 24, 2024
            elif month and not (sign or symbol or percent) and value == int(value) and 1 <= value <= 31:
                self._add("date", f"{month[1]:02}-{int(value):02}")
            else:
                self._add("number", _plain(value))
                if symbol:
                    self._add("money", CURRENCIES[symbol])
                if percent:
                    self._add("percent", "%")
        elif (day := moment(word)) and day[0] == "date":
            self._add("date", word[5:])
            self._add("year", word[:4])
        elif clock := _CLOCK.match(low):
            hour, minute, second, half = clock.groups()
            self._add("moment", f"{int(hour):02}:{minute or '00'}" + (f":{second}" if second else ""))
            if half:
                self._read_half(half)
        else:
            self._add("identifier", word)

    def _read_half(self, half: str) -> None:
        """The number or time just read is of this half of the day."""
        kind, value = self.found[-1] if self.found else ("", "")
        hour, _, rest = value.partition(":")
        if kind in ("number", "moment") and hour.isdigit() and int(hour) <= 12:
            shift = 12 if half == "pm" and int(hour) < 12 else -12 if half == "am" and int(hour) == 12 else 0
            self.found[-1] = ("moment", f"{int(hour) + shift:02}:{rest or '00'}")

    def _add(self, kind: str, value: str) -> None:
        self.found.append((kind, value))


_ARTICLES = frozenset(words("a an the my your his her their our its this that"))


def _plain(value: Decimal) -> str:
    """One spelling for each number: 255.00 and 255 are the same."""
    return str(int(value)) if value == value.to_integral_value() else str(value.normalize())
