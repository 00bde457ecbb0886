"""Compare what an agent did with what it should have done, and say why they differ.

JSON values are compared by type and, where a tool declares one, by its JSON schema. Equality is reflexive and
symmetric and does not see key order; anything JSON does not define (NaN, duplicate keys) is refused on the way in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pivotrl.strict_json import MAX_DEPTH, kind_of

_MAX_INDIRECTIONS = 16
"""References and alternatives followed in a schema before it counts as silent; they may form a loop."""

_ID_LIKE = re.compile(r"(?:(?:^|[._-])(?:ids?|Ids?|IDs?)|[a-z0-9]I[dD]s?)(?:\[\d+\])*\Z")
_TRIMMED = frozenset({"enum", "const", "format"})


@dataclass(frozen=True)
class Difference:
    """The first place where two values differ.

    ``reason`` is one of missing_argument, unexpected_argument, different_type, different_length, different_value;
    ``path`` reads like ``flights[0].date`` and is empty for the whole value.
    """

    reason: str
    path: str


def compare_json(
    expected: Any, actual: Any, schema: Mapping[str, Any] | None = None, *, ignore_case: bool = False
) -> Difference | None:
    """The first difference between two JSON values, None when they are equal.

    A boolean never equals a number; numbers are equal when mathematically so (5 and 5.0); arrays are ordered.
    Strings are equal when identical, ``ignore_case`` apart. The schema adds three rules: surrounding blanks do not
    count where it names an enum, a format, or an identifier (``user_id``); an optional property at its default
    equals its absence; so does an explicit null, unless null is itself a choice beside another default. What the
    schema does not describe is compared without it; a malformed schema says nothing.

    Raises:
        ValueError: a value is not JSON, or is nested deeper than ``MAX_DEPTH``.
    """
    root = dict(schema or {})
    return _Comparison(root, ignore_case).compare(expected, actual, root, "")


@dataclass(frozen=True)
class _Comparison:
    root: dict[str, Any]
    """The whole schema, which local references point into."""
    ignore_case: bool

    def compare(self, expected: Any, actual: Any, schema: Any, path: str, depth: int = 0) -> Difference | None:
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        kind = kind_of(expected)
        if kind_of(actual) != kind:
            return Difference("different_type", path)
        schema = self._governing(schema, expected, actual)
        if kind == "object":
            return self._compare_objects(expected, actual, schema, path, depth)
        if kind == "array":
            if len(expected) != len(actual):
                return Difference("different_length", path)
            pairs = enumerate(zip(expected, actual, strict=True))
            found = (self.compare(e, a, schema.get("items"), f"{path}[{i}]", depth + 1) for i, (e, a) in pairs)
            return next(filter(None, found), None)
        if kind == "string":
            expected, actual = (self._comparable(text, schema, path) for text in (expected, actual))
        return None if expected == actual else Difference("different_value", path)

    def _compare_objects(
        self, expected: dict[str, Any], actual: dict[str, Any], schema: dict[str, Any], path: str, depth: int
    ) -> Difference | None:
        properties, required = _mapping(schema.get("properties")), _list(schema.get("required"))
        for key in {**expected, **actual}:
            place, part = _join(path, key), properties.get(key, schema.get("additionalProperties"))
            sides = [side[key] for side in (expected, actual) if key in side]
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
        # The default is compared without its schema: nested defaults would cost exponential time.
        return "default" in schema and self.compare(schema["default"], value, {}, "", depth + 1) is None

    def _comparable(self, text: str, schema: dict[str, Any], path: str) -> str:
        if schema and (_TRIMMED & schema.keys() or _ID_LIKE.search(path)):
            text = text.strip()
        return text.casefold() if self.ignore_case else text

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


def same_text(expected: str | None, actual: str | None) -> bool:
    """Whether two texts are the same, surrounding blanks apart. No text equals empty text."""
    return (expected or "").strip() == (actual or "").strip()


def match_all(edges: Sequence[Sequence[int]]) -> dict[int, int]:
    """A maximum matching of a bipartite graph, by augmenting paths.

    Args:
        edges: for each left node the right nodes it may be matched with.

    Returns:
        {left: right}; a left node that is missing cannot be matched beside the others.
    """
    matched: dict[int, int] = {}
    owner: dict[int, int] = {}
    for start in range(len(edges)):
        reached_from: dict[int, int] = {}
        free: int | None = None
        queue = [start]
        for left in queue:  # grows while it is walked: breadth first, no recursion
            for right in edges[left]:
                if right not in reached_from:
                    reached_from[right] = left
                    if right in owner:
                        queue.append(owner[right])
                    else:
                        free = right
                        break
            if free is not None:
                break
        while free is not None:  # flip the path back to the start
            left = reached_from[free]
            owner[free] = left
            matched[left], free = free, matched.get(left)
    return matched
