"""Units of measurement: the same one by its sign and by its name, and which words are units at all. By ``pint``."""

from __future__ import annotations

import functools
import re
from typing import Any

from pivotrl.protocols import InputError

_PART = r"[A-Za-zµμΩÅ°]+(?:\^-?[1-9]|[²³])?"
_UNIT = re.compile(rf"{_PART}(?:(?: ?[/*·] ?| per | ){_PART}){{0,4}}\Z")
"""No powers of powers: they would be worked out."""
_SPELLINGS = (
    (re.compile(r"\bdeg(?:ree)?s? (?:celsius|centigrade|c)\b|°\s?C\b", re.IGNORECASE), "degC"),
    (re.compile(r"\bdeg(?:ree)?s? (?:fahrenheit|f)\b|°\s?F\b", re.IGNORECASE), "degF"),
    (re.compile(r"\bsq\.? "), "square "),
    (re.compile(r"\bcu\.? "), "cubic "),
    (re.compile(r"^([A-Za-z]+) squared$"), r"square \1"),
    (re.compile(r"^([A-Za-z]+) cubed$"), r"cubic \1"),
    (re.compile(r"(?<=[a-z])([23])\b"), r"^\1"),
    (re.compile(r"\bkmh\b|\bkph\b"), "km/h"),
    (re.compile(r"\bmph\b"), "mile/hour"),
    (re.compile(r"\bkilos?\b"), "kilogram"),
)
_ABSTRACT = re.compile(r"(?:square |cubic )?units?\Z")
"""``12 square units``: known, and of no system."""
_NO_UNITS = frozenset(
    ["k", "M", "B", "T", "e", "c", "a", "x", "count", "counts", "percent", "permille", "ppm", "point", "points"]
)
"""Numbers, constants and marks that ``pint`` has a unit for."""


def same_unit(one: str, other: str) -> bool:
    """Whether two units are one, by sign or by name (``km``, ``kilometers``). Nothing is converted."""
    if one == other or _folded(one) == _folded(other):
        return True
    first = _known(one)
    return first is not None and first == _known(other)


def is_unit(text: str) -> bool:
    """Whether a text is a unit of measurement, and not just any word behind a number.

    Raises:
        InputError: ``pint`` is not installed.
    """
    if _registry() is None:
        raise InputError("telling units from other words needs pint: pip install 'pivotrl[answers]'")
    return _known(text) is not None


def _folded(unit: str) -> str:
    """A word without case and plural; a sign as it is, for ``mW`` is not ``MW``, nor ``Mmol`` ``mmol``."""
    words = unit.split()
    if _known(unit) is not None or not all(w.isalpha() and len(w) > 3 and (w.islower() or w.istitle()) for w in words):
        return unit
    return unit.casefold().removesuffix("s")


@functools.lru_cache(maxsize=1024)
def _known(unit: str) -> str | None:
    if _ABSTRACT.match(unit):
        return unit.removesuffix("s")
    for pattern, replacement in _SPELLINGS:
        unit = pattern.sub(replacement, unit)
    registry = _registry()
    if registry is None or unit in _NO_UNITS or not _UNIT.match(unit):
        return None
    names = [unit] if not unit.istitle() or len(unit) <= 3 else [unit, unit.lower()]
    for name in names:
        try:
            return str(registry.parse_units(name.replace("²", "^2").replace("³", "^3").replace("·", "*")))
        except Exception:  # noqa: S112  # pint has no common base for what it raises at words
            continue
    return None


@functools.cache
def _registry() -> Any:
    try:
        import pint  # a second to import
    except ModuleNotFoundError:
        return None
    return pint.UnitRegistry()
