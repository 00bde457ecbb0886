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

from pivotrl.equivalence.dates import same_moment
from pivotrl.equivalence.pairing import match_all
from pivotrl.equivalence.rules import Rule, RuleAt
from pivotrl.strict_json import MAX_DEPTH, kind_of

_MAX_INDIRECTIONS = 16
"""References and alternatives followed in a schema before it counts as silent; they may form a loop."""

_MAX_COMPARISONS = 100_000
"""Pairs of values compared before giving up: unordered arrays inside one another multiply."""

_ID_LIKE = re.compile(r"(?:(?:^|[._-])(?:ids?|Ids?|IDs?)|[a-z0-9]I[dD]s?)(?:\[\d+\])*\Z")
_CHOICES = frozenset({"enum", "const", "format"})
_BLANKS = " \t\r\n"
"""Not every blank of Unicode: one that cannot be seen must not make two identifiers equal."""
_MOMENTS = ("date", "date-time", "time")
_POSITIONS = re.compile(r"\[\d+\]")


class TooLarge(ValueError):
    """Two values that cannot be compared in bounded time."""


@dataclass(frozen=True)
class Difference:
    """The first place where two values differ.

    ``reason`` is one of missing_argument, unexpected_argument, different_type, different_length, different_value;
    ``path`` reads like ``flights[0].date`` and is empty for the whole value.
    """

    reason: str
    path: str


def compare_json(
    expected: Any,
    actual: Any,
    schema: Mapping[str, Any] | None = None,
    *,
    ignore_case: bool = False,
    rule_at: RuleAt | None = None,
) -> Difference | None:
    """The first difference between two JSON values, None when they are equal.

    A boolean never equals a number, nor a text a number, even where the schema wants one: a tool that checks its
    arguments refuses it (the rule ``number`` says otherwise). Numbers are equal when mathematically so (5 and 5.0);
    arrays are ordered; strings are equal when identical.

    The schema adds: surrounding blanks do not count where it names an enum, a format, or an identifier (``user_id``);
    texts of format date, date-time and time are equal when they name the same moment; arrays of ``uniqueItems`` are
    unordered; an optional property at its default equals its absence (250 too where the default of an integer is
    declared as ``"250"``); so does an explicit null, unless null is itself a choice beside another default. What the
    schema does not describe is compared without it; a malformed schema says nothing.

    Args:
        ignore_case: letter case does not count, except in what a schema names an enum, a format or an identifier.
        rule_at: the rule for a place goes before all of this; but ``normalised`` and ``token_f1`` never concern what
            is named an identifier, an enum or a format.

    Raises:
        TooLarge: it would take too long: unordered arrays inside one another.
        ValueError: a value is not JSON, or is nested deeper than ``MAX_DEPTH``.
    """
    root = dict(schema or {})
    return _Comparison(root, ignore_case, rule_at).compare(expected, actual, root, "")


@dataclass
class _Comparison:
    root: dict[str, Any]
    """The whole schema, which local references point into."""
    ignore_case: bool
    rule_at: RuleAt | None
    num_compared: int = field(default=0, init=False)

    def compare(self, expected: Any, actual: Any, schema: Any, path: str, depth: int = 0) -> Difference | None:
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        self.num_compared += 1
        kind = kind_of(expected)
        other_kind = kind_of(actual)
        schema = self._governing(schema, expected, actual)
        rule = self._rule(path)
        if rule and not (rule.loosens and _is_exact(schema, path)):
            verdict = rule.equal(expected, actual)
            if verdict is not None:
                return None if verdict else Difference("different_value", path)
        if other_kind != kind:
            return Difference("different_type", path)
        if kind == "object":
            return self._compare_objects(expected, actual, schema, path, depth)
        if kind == "array":
            return self._compare_arrays(expected, actual, schema, path, depth)
        same = self._same_text(expected, actual, schema, path) if kind == "string" else expected == actual
        return None if same else Difference("different_value", path)

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
        first = next(filter(None, found), None)
        rule = self._rule(path)
        unordered = rule.name == "unordered" if rule else schema.get("uniqueItems") is True
        if first is None or not unordered:
            return first
        edges: list[list[int]] = []
        for i, wanted in enumerate(expected):
            if self.num_compared > _MAX_COMPARISONS:
                raise TooLarge(f"unordered arrays at {path} are too large to compare")
            equal = (self.compare(wanted, given, items, f"{path}[{i}]", depth + 1) is None for given in actual)
            edges.append([j for j, same in enumerate(equal) if same])
            if not edges[-1]:
                return Difference("different_value", f"{path}[{i}]")
        return None if len(match_all(edges)) == len(expected) else first

    def _compare_objects(
        self, expected: dict[str, Any], actual: dict[str, Any], schema: dict[str, Any], path: str, depth: int
    ) -> Difference | None:
        properties, required = _mapping(schema.get("properties")), _list(schema.get("required"))
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
            if difference and not (optional and all(self._says_nothing(side, part, depth) for side in sides)):
                return difference
        return None

    def _says_nothing(self, value: Any, schema: Any, depth: int) -> bool:
        """Whether an optional property with this value might as well be absent."""
        schema = self._governing(schema, value)
        if value is None:
            return schema.get("default") is None or not _admits(schema, None)
        if "default" not in schema:
            return False
        default = schema["default"]
        if isinstance(default, str | int | float) and not _admits(schema, default) and _admits(schema, value):
            return str(default) == str(value)  # declared in another type by mistake: "250" for an integer
        # The default is compared without its schema: nested defaults would cost exponential time.
        return _Comparison({}, self.ignore_case, None).compare(default, value, {}, "", depth + 1) is None

    def _same_text(self, expected: str, actual: str, schema: dict[str, Any], path: str) -> bool:
        if expected == actual:
            return True
        exact = _is_exact(schema, path)
        if schema and exact:
            expected, actual = expected.strip(_BLANKS), actual.strip(_BLANKS)
            kind = schema.get("format")
            return expected == actual or (kind in _MOMENTS and same_moment(expected, actual, kind))
        return self.ignore_case and not exact and expected.casefold() == actual.casefold()

    def _governing(self, schema: Any, *values: Any) -> dict[str, Any]:
        """The schema of the values: references followed, and the first alternative that admits them all."""
        found = self._follow(schema)
        for _ in range(_MAX_INDIRECTIONS):
            keyword = next((word for word in ("allOf", "anyOf", "oneOf") if word in found), None)
            if keyword is None:
                return found
            parts = [self._follow(part) for part in _list(found.pop(keyword))]
            chosen = next((part for part in parts if all(_admits(part, value) for value in values)), {})
            found = self._follow({**chosen, **found})
        return {}

    def _follow(self, schema: Any) -> dict[str, Any]:
        """The schema, with a reference at its top replaced by what it points to. Always a new dict."""
        found = dict(_mapping(schema))
        for _ in range(_MAX_INDIRECTIONS):
            if "$ref" not in found:
                return found
            found = {**self._target(found.pop("$ref")), **found}
        return {}

    def _target(self, reference: Any) -> Mapping[str, Any]:
        if not isinstance(reference, str) or not reference.startswith("#"):
            return {}
        target: Any = self.root
        for name in reference[1:].split("/")[1:]:
            target = _mapping(target).get(name.replace("~1", "/").replace("~0", "~"))
        return _mapping(target)


def _admits(schema: Mapping[str, Any], value: Any) -> bool:
    """Whether the value may be an instance, judged by type, choices and required keys, one level deep."""
    kind, types = kind_of(value), schema.get("type")
    allowed = [types] if isinstance(types, str) else _list(types)
    if allowed and kind not in allowed and not (kind == "number" and "integer" in allowed):
        return False
    if not _is_choice(schema, value):
        return False
    if kind != "object":
        return True
    properties = _mapping(schema.get("properties"))
    return all(key in value for key in _list(schema.get("required")) if isinstance(key, str)) and all(
        _is_choice(_mapping(properties.get(key)), item) for key, item in value.items()
    )


def _is_exact(schema: Mapping[str, Any], path: str) -> bool:
    """Whether a text is an identifier, one of a few choices, or of a format: letter case is never ignored there."""
    return not _CHOICES.isdisjoint(schema) or bool(_ID_LIKE.search(path))


def _is_choice(schema: Mapping[str, Any], value: Any) -> bool:
    choices = [schema["const"]] if "const" in schema else _list(schema.get("enum"))
    return not choices or value in choices


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _join(path: str, key: str) -> str:
    if not key.isidentifier():
        return f"{path}[{json.dumps(key, ensure_ascii=False)}]"
    return f"{path}.{key}" if path else key
