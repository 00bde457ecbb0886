"""Arguments written without quotes: the tool's JSON schema says which of them are texts and which are JSON.

A schema is followed through ``$ref`` (within the tool's own schema), ``allOf``, ``anyOf``, ``oneOf``, ``enum`` and
``const``. A value stays text where the schema allows any text, says nothing, or points to nothing.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from pivotrl.records import Tool
from pivotrl.records.strict_json import kind_of, parse_json
from pivotrl.text.tool_call_syntax import Unparsable

_ANY = frozenset({"string", "number", "boolean", "array", "object", "null"})
_TYPES = {
    **{name: name for name in _ANY},
    **{"integer": "number", "int": "number", "float": "number", "double": "number"},
    **{"str": "string", "bool": "boolean", "list": "array", "tuple": "array", "dict": "object", "none": "null"},
}
"""Names of types, those of Python among them, and the types of JSON that they are. Other names are ignored."""
_RULES = {
    **dict.fromkeys(("properties", "additionalProperties", "patternProperties", "required"), "object"),
    **dict.fromkeys(("minProperties", "maxProperties", "propertyNames"), "object"),
    **dict.fromkeys(("items", "prefixItems", "contains", "minItems", "maxItems", "uniqueItems"), "array"),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), "number"),
    **dict.fromkeys(("minLength", "maxLength", "pattern"), "string"),
}
"""Keywords of schemas that are rules for values of one type: they imply that type if none is named."""
_NAMES = {"true": True, "false": False, "none": None, "null": None}
_MAX_STEPS = 10_000


def bare_arguments(
    text: str, position: int, pattern: re.Pattern[str], tools: Sequence[Tool], name: str
) -> tuple[str, int]:
    """The arguments of a call to the tool, written without quotes one after another, as JSON; and where they end.

    Args:
        pattern: of one argument; its groups are the key and the value.

    Raises:
        Unparsable: ``argument_occurs_twice``.
    """
    schema = _Schema(next((tool.parameters for tool in tools if tool.name == name), {}))
    arguments: dict[str, Any] = {}
    while found := pattern.match(text, position):
        if found[1] in arguments:
            raise Unparsable("argument_occurs_twice")
        arguments[found[1]] = _typed(found[2], schema.argument(found[1]))
        position = found.end()
    return json.dumps(arguments, ensure_ascii=False), position


def bare_value(value: Any) -> str:
    """An argument as :func:`bare_arguments` reads it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class _Admitted(NamedTuple):
    """The values that a schema allows: certain types, or certain choices."""

    types: frozenset[str] = frozenset()
    choices: tuple[Any, ...] = ()

    def admits(self, value: Any) -> bool:
        return _kind(value) in self.types or any(_same(value, choice) for choice in self.choices)

    def __and__(self, other: _Admitted) -> _Admitted:
        both = [value for value in self.choices if other.admits(value)]
        both += [value for value in other.choices if self.admits(value)]
        return _Admitted(self.types & other.types, tuple(both))

    def __or__(self, other: _Admitted) -> _Admitted:
        return _Admitted(self.types | other.types, self.choices + other.choices)


_ANYTHING = _Admitted(_ANY)


def _typed(text: str, admitted: _Admitted) -> Any:
    """The meaning of an unquoted value. A verifier judges values of the wrong type."""
    if admitted.types == _ANY:
        return text
    kinds = admitted.types | {_kind(choice) for choice in admitted.choices}
    if text in admitted.choices:
        return text
    value = _read(text, kinds)
    if value is text or not kinds or _kind(value) in {"array", "object"} & kinds:
        return value
    if any(_same(value, choice) for choice in admitted.choices) or (value is None and "null" in kinds):
        return value
    free_text = "string" in admitted.types or ("string" in kinds and _kind(value) not in admitted.types)
    return text if free_text else value


def _read(text: str, kinds: frozenset[str | None]) -> Any:
    """The value of a text as JSON, or as Python's name for one; else, or when no kind is known, the text itself."""
    name = text.lower()
    if name in _NAMES and ("null" if _NAMES[name] is None else "boolean") in kinds:
        return _NAMES[name]
    try:
        return parse_json(text) if kinds else text
    except ValueError:
        return text


class _Schema:
    """The schema of a tool's arguments."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._num_steps = 0

    def argument(self, key: str) -> _Admitted:
        """The allowed values of an argument; anything if the schema does not say."""
        return self._member(self._root, key, frozenset()) or _ANYTHING

    def _member(self, schema: Any, key: str, seen: frozenset[str]) -> _Admitted | None:
        """The schema of an object's member; None if there is none."""
        if not isinstance(schema, Mapping) or not self._step():
            return None
        properties, found = schema.get("properties"), list[_Admitted | None]()
        if isinstance(properties, Mapping) and key in properties:
            found.append(self._admitted(properties[key], frozenset()))
        for part, within in self._parts(schema, seen):
            found.append(self._member(part, key, within))
        for branches in _branches(schema):
            said = [told for part in branches if (told := self._member(part, key, seen))]
            found.append(functools.reduce(_Admitted.__or__, said) if said else None)
        parts = [part for part in found if part is not None]
        if not parts and isinstance(schema.get("additionalProperties"), Mapping):
            parts = [self._admitted(schema["additionalProperties"], frozenset())]
        return functools.reduce(_Admitted.__and__, parts) if parts else None

    def _admitted(self, schema: Any, seen: frozenset[str]) -> _Admitted:
        """
        Args:
            seen: the references that led here; one that leads back to itself admits nothing more.
        """
        if not isinstance(schema, Mapping) or not self._step():
            return _ANYTHING
        found = _own(schema)
        for part, within in self._parts(schema, seen):
            found &= self._admitted(part, within)
        for branches in _branches(schema):
            found &= functools.reduce(_Admitted.__or__, (self._admitted(part, seen) for part in branches))
        return found | _Admitted(frozenset({"null"})) if schema.get("nullable") is True else found

    def _parts(self, schema: Mapping[str, Any], seen: frozenset[str]) -> Iterable[tuple[Any, frozenset[str]]]:
        """What a schema holds to besides its own words, and the references that led there."""
        yield from ((part, seen) for part in _listed(schema.get("allOf")))
        reference = schema.get("$ref")
        if isinstance(reference, str):
            yield ({"enum": []} if reference in seen else self._target(reference)), seen | {reference}

    def _target(self, reference: str) -> Any:
        place, _, pointer = reference.partition("#")
        if place and place != self._root.get("$id"):
            return None
        target: Any = self._root
        if pointer and not pointer.startswith("/"):
            named = [target.get(keyword) for keyword in ("$defs", "definitions")]
            inner = [part for parts in named if isinstance(parts, Mapping) for part in parts.values()]
            return next((part for part in inner if isinstance(part, Mapping) and part.get("$anchor") == pointer), None)
        for name in unquote(pointer).split("/")[1:]:
            name = name.replace("~1", "/").replace("~0", "~")
            if isinstance(target, list) and name.isdecimal() and int(name) < len(target):
                target = target[int(name)]
            else:
                target = target.get(name) if isinstance(target, Mapping) else None
        return target

    def _step(self) -> bool:
        self._num_steps += 1
        return self._num_steps <= _MAX_STEPS


def _own(schema: Mapping[str, Any]) -> _Admitted:
    """What a schema says itself, without what it refers to."""
    declared = schema.get("type")
    names = [declared] if isinstance(declared, str) else _listed(declared)
    known = [_TYPES.get(name.strip().lower()) if isinstance(name, str) else None for name in names]
    types = _ANY if None in known else frozenset(name for name in known if name)
    if not names:
        types = frozenset(kind for keyword, kind in _RULES.items() if keyword in schema) or _ANY
    choices = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(choices, list):
        return _Admitted(types)
    return _Admitted(frozenset(), tuple(choice for choice in choices if _kind(choice) in types))


def _branches(schema: Mapping[str, Any]) -> list[list[Any]]:
    return [branches for keyword in ("anyOf", "oneOf") if (branches := _listed(schema.get(keyword)))]


def _kind(value: Any) -> str | None:
    return None if isinstance(value, float) and not math.isfinite(value) else kind_of(value)


def _same(value: Any, other: Any) -> bool:
    return _kind(value) == _kind(other) and bool(value == other)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
