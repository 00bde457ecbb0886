"""The part of a JSON schema that applies to a value: references, all parts of ``allOf``, the matching alternative."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pivotrl.records.strict_json import kind_of

_MAX_INDIRECTIONS = 16
"""Limit for following references and alternatives, which may form a loop."""
_CHOICES = frozenset({"enum", "const", "format"})


class Schemas:
    """The root schema, which local references point into."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.root = dict(root)

    def governing(self, schema: Any, *values: Any) -> dict[str, Any]:
        """The schema of the values as one plain schema: references followed, the parts of ``allOf`` joined, and of
        ``anyOf`` and ``oneOf`` the first alternative that admits them all."""
        found = self._follow(schema)
        for _ in range(_MAX_INDIRECTIONS):
            keyword = next((word for word in ("allOf", "anyOf", "oneOf") if word in found), None)
            if keyword is None:
                return found
            parts = [self._follow(part) for part in as_list(found.pop(keyword))]
            if keyword != "allOf":
                parts = [part for part in parts if all(self._admits(part, value) for value in values)][:1]
            for part in parts:
                found = _joined(found, part)
            found = self._follow(found)
        return {}

    def admits(self, schema: Any, value: Any) -> bool:
        """Whether the value may be an instance, judged by type, choices and required keys, one level deep."""
        return self._admits(self._follow(schema), value)

    def _admits(self, schema: Mapping[str, Any], value: Any) -> bool:
        if "allOf" in schema:
            schema = self.governing(schema, value)
        kind, types = kind_of(value), schema.get("type")
        allowed = [types] if isinstance(types, str) else as_list(types)
        if allowed and kind not in allowed and not (kind == "number" and "integer" in allowed):
            return False
        if not _is_choice(schema, value):
            return False
        if kind != "object":
            return True
        properties = as_mapping(schema.get("properties"))
        return all(key in value for key in as_list(schema.get("required")) if isinstance(key, str)) and all(
            _is_choice(self._follow(properties.get(key)), item) for key, item in value.items()
        )

    def _follow(self, schema: Any) -> dict[str, Any]:
        """The schema with a reference at its top resolved. Always a new dict."""
        found = dict(as_mapping(schema))
        for _ in range(_MAX_INDIRECTIONS):
            if "$ref" not in found:
                return found
            target = self._target(found.pop("$ref"))
            found = _joined(found, target)
        return {}

    def _target(self, reference: Any) -> Mapping[str, Any]:
        if not isinstance(reference, str) or not reference.startswith("#"):
            return {}
        target: Any = self.root
        for name in reference[1:].split("/")[1:]:
            target = as_mapping(target).get(name.replace("~1", "/").replace("~0", "~"))
        return as_mapping(target)


def _joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Both schemas merged: same places are combined, and otherwise the first takes precedence."""
    made = {**other, **one}
    if "properties" in one and "properties" in other:
        mine, theirs = as_mapping(one["properties"]), as_mapping(other["properties"])
        both = {key: {"allOf": [mine[key], theirs[key]]} for key in mine if key in theirs and mine[key] != theirs[key]}
        made["properties"] = {**theirs, **mine, **both}
    if "required" in one and "required" in other:
        made["required"] = [*as_list(one["required"]), *as_list(other["required"])]
    if "items" in one and "items" in other and one["items"] != other["items"]:
        made["items"] = {"allOf": [one["items"], other["items"]]}
    for word in ("allOf", "anyOf", "oneOf"):
        if word in one and word in other:
            made[word] = [*as_list(one[word]), *as_list(other[word])]
    return made


def is_exact(schema: Mapping[str, Any]) -> bool:
    """Whether it declares choices or a format."""
    return not _CHOICES.isdisjoint(schema)


def _is_choice(schema: Mapping[str, Any], value: Any) -> bool:
    choices = [schema["const"]] if "const" in schema else as_list(schema.get("enum"))
    return not choices or value in choices


def as_mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
