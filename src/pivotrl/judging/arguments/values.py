"""JSON values compared by type, by a tool's JSON schema, and by rules for single arguments; and why they differ.

Equality is reflexive and symmetric and does not see key order; anything JSON does not define (NaN, duplicate keys) is
refused on the way in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pivotrl.judging.arguments.rules import Rule, RuleAt
from pivotrl.judging.arguments.schemas import Schemas, as_list, as_mapping, is_exact
from pivotrl.judging.messages.dates import same_moment
from pivotrl.judging.messages.free_text import without_case
from pivotrl.judging.messages.pairing import match_all
from pivotrl.records.strict_json import MAX_DEPTH, kind_of

_MAX_COMPARISONS = 100_000
"""Pairs of values compared before giving up: unordered arrays inside one another, and defaults, multiply."""

_ID_LIKE = re.compile(r"(?:(?:^|[._-])(?:ids?|Ids?|IDs?)|[a-z0-9]I[dD]s?)(?:\[\d+\])*\Z")
_MOMENTS = ("date", "date-time", "time")
_POSITIONS = re.compile(r"\[\d+\]")
_POSITION = re.compile(r"\[\d+\]\Z")


class TooLarge(ValueError):
    """Two values that cannot be compared in bounded time."""


@dataclass(frozen=True)
class Difference:
    """The first place where two values differ.

    ``reason`` is one of missing_argument, unexpected_argument, different_type, different_length, different_value, and
    undecided_text where nothing else differs and this could not be decided; ``path`` reads like
    ``flights[0].date`` and is empty for the whole value.
    """

    reason: str
    path: str

    @property
    def is_open(self) -> bool:
        """Whether the values may be equal after all."""
        return self.reason == "undecided_text"


def compare_json(
    expected: Any,
    actual: Any,
    schema: Mapping[str, Any] | None = None,
    *,
    ignore_case: bool = False,
    rule_at: RuleAt | None = None,
) -> Difference | None:
    """The first difference between two JSON values; None if they are equal.

    A boolean never equals a number, nor a text a number, even where the schema wants one: a tool that checks its
    arguments refuses it (the rule ``number`` says otherwise). Numbers are equal when mathematically so (5 and 5.0);
    arrays are ordered (``uniqueItems`` forbids repetitions, it says nothing of order); strings are equal when
    identical.

    The schema adds: surrounding blanks of an identifier (``user_id``) leave it open, for some tools take them off, and
    count in an enum, a constant and a format, which a validator would refuse; texts of format date, date-time and time
    are equal when they name the same moment; an optional property at its default equals its absence (250 too where the
    default of an integer is declared as ``"250"``); so does an explicit null without another default, which leaves it
    open where the schema allows no null. References and all parts of ``allOf`` count. What the schema does not describe
    is compared without it; a malformed schema says nothing.

    Args:
        ignore_case: letter case does not count, except in what a schema names an enum, a format or an identifier.
        rule_at: the rule for a place goes before all of this; but ``normalised`` and ``token_f1`` never concern what
            is named an identifier, an enum or a format.

    Raises:
        TooLarge: it would take too long: unordered arrays inside one another, or defaults.
        ValueError: a value is not JSON, or is nested deeper than ``MAX_DEPTH``.
    """
    schemas = Schemas(schema or {})
    return _Comparison(schemas, ignore_case, rule_at).compare(expected, actual, schemas.root, "")


@dataclass
class _Comparison:
    schemas: Schemas
    ignore_case: bool
    rule_at: RuleAt | None
    in_default: bool = False
    num_compared: int = field(default=0, init=False)

    def compare(self, expected: Any, actual: Any, schema: Any, path: str, depth: int = 0) -> Difference | None:
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        self.num_compared += 1
        if self.num_compared > _MAX_COMPARISONS:
            raise TooLarge(f"the values at {path or 'the top'} are too large to compare")
        kind = kind_of(expected)
        other_kind = kind_of(actual)
        schema = self.schemas.governing(schema, expected, actual)
        rule = self._rule(path)
        if rule and not (rule.loosens and _is_exact(schema, path)):
            likeness = rule.compare(expected, actual)
            if likeness is not None:
                reasons = {"different": "different_value", "undecided": "undecided_text"}
                return Difference(reasons[likeness], path) if likeness != "equal" else None
        if other_kind != kind:
            return Difference("different_type", path)
        if kind == "object":
            return self._compare_objects(expected, actual, schema, path, depth)
        if kind == "array":
            return self._compare_arrays(expected, actual, schema, path, depth)
        same = self._same_text(expected, actual, schema, path) if kind == "string" else expected == actual
        if same:
            return None
        is_name = kind == "string" and bool(schema) and not is_exact(schema) and _is_exact(schema, path)
        is_open = is_name and _up_to_blanks(expected, actual)
        return Difference("undecided_text" if is_open else "different_value", path)

    def _rule(self, path: str) -> Rule | None:
        return self.rule_at(_POSITIONS.sub("", path)) if self.rule_at else None

    def _compare_arrays(
        self, expected: list[Any], actual: list[Any], schema: dict[str, Any], path: str, depth: int
    ) -> Difference | None:
        if len(expected) != len(actual):
            return Difference("different_length", path)
        items = schema.get("items")
        pairs = enumerate(zip(expected, actual, strict=True))
        found = (self.compare(e, a, items, f"{path}[{i}]", depth + 1) for i, (e, a) in pairs)
        first = _first(list(found))
        rule = self._rule(path)
        if first is None or rule is None or rule.name != "unordered" or _POSITION.search(path):  # an inner array
            return first
        open_edges: list[list[int]] = []
        sure_edges: list[list[int]] = []
        for i, wanted in enumerate(expected):
            row = [self.compare(wanted, given, items, f"{path}[{i}]", depth + 1) for given in actual]
            open_edges.append([j for j, difference in enumerate(row) if difference is None or difference.is_open])
            sure_edges.append([j for j, difference in enumerate(row) if difference is None])
            if not open_edges[-1]:
                return Difference("different_value", f"{path}[{i}]")
        if len(match_all(sure_edges)) == len(expected):
            return None
        return Difference("undecided_text", path) if len(match_all(open_edges)) == len(expected) else first

    def _compare_objects(
        self, expected: dict[str, Any], actual: dict[str, Any], schema: dict[str, Any], path: str, depth: int
    ) -> Difference | None:
        properties, required = as_mapping(schema.get("properties")), as_list(schema.get("required"))
        open_one: Difference | None = None
        for key in {**expected, **actual}:
            place, part = _join(path, key), properties.get(key, schema.get("additionalProperties"))
            sides = [side[key] for side in (expected, actual) if key in side]
            if (rule := self._rule(place)) and rule.name == "ignore":
                continue
            if len(sides) == 2:
                difference = self.compare(sides[0], sides[1], part, place, depth + 1)
            else:
                difference = Difference("missing_argument" if key in expected else "unexpected_argument", place)
            optional = key in properties and key not in required
            if difference and optional and self._is_null_for_default(sides, part):
                difference = Difference("undecided_text", place)
            if difference and not (optional and all(self._says_nothing(side, part) for side in sides)):
                if not difference.is_open:
                    return difference
                open_one = open_one or difference
        return open_one

    def _is_null_for_default(self, sides: list[Any], schema: Any) -> bool:
        """Whether null is given where the default is something else and the schema allows no null: one tool takes the
        default, another refuses the call, a third goes on with null."""
        if None not in sides:
            return False
        schema = self.schemas.governing(schema, None)
        is_default = all(side is None or self._says_nothing(side, schema) for side in sides)
        return is_default and schema.get("default") is not None and not self.schemas.admits(schema, None)

    def _says_nothing(self, value: Any, schema: Any) -> bool:
        """Whether an optional property with this value equals its absence."""
        schema = self.schemas.governing(schema, value)
        if value is None:
            return schema.get("default") is None
        if "default" not in schema:
            return False
        default, admits = schema["default"], self.schemas.admits
        if isinstance(default, str | int | float) and not admits(schema, default) and admits(schema, value):
            return str(default) == str(value)  # declared in another type by mistake: "250" for an integer
        # Inside a default, further defaults are compared without their schemas: else they would cost exponential time.
        inner = {} if self.in_default else {name: said for name, said in schema.items() if name != "default"}
        other = _Comparison(self.schemas, self.ignore_case, None, in_default=True)
        return other.compare(default, value, inner, "") is None

    def _same_text(self, expected: str, actual: str, schema: dict[str, Any], path: str) -> bool:
        if expected == actual:
            return True
        if is_exact(schema):
            kind = schema.get("format")
            return kind in _MOMENTS and same_moment(expected, actual, kind)
        return not _is_exact(schema, path) and self.ignore_case and without_case(expected) == without_case(actual)


def _up_to_blanks(one: str, other: str) -> bool:
    """Not every blank of Unicode: one that cannot be seen must not leave it open what is another identifier."""
    return one.strip(" \t\r\n") == other.strip(" \t\r\n")


def _first(differences: list[Difference | None]) -> Difference | None:
    """The first certain difference, else the first possible one."""
    found = [difference for difference in differences if difference is not None]
    return next((difference for difference in found if not difference.is_open), found[0] if found else None)


def _is_exact(schema: Mapping[str, Any], path: str) -> bool:
    """Whether a text is an identifier, one of a few choices, or of a format: letter case is never ignored there."""
    return is_exact(schema) or bool(_ID_LIKE.search(path))


def _join(path: str, key: str) -> str:
    if not key.isidentifier():
        return f"{path}[{json.dumps(key, ensure_ascii=False)}]"
    return f"{path}.{key}" if path else key
