"""Declarations of tools in the spellings of many APIs, as tools with JSON schemas.

OpenAI (nested, or flat), Anthropic (``input_schema``), MCP (``inputSchema``), Bedrock (``toolSpec``), Gemini
(``functionDeclarations``, types in capitals), LangChain (``args``, ``args_schema``), smolagents (``inputs``), Cohere
(``parameter_definitions``), and the Python types of xLAM and ToolACE.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pivotrl.reading.fields import as_object, member, optional
from pivotrl.records import Tool

SCHEMA_KEYS = (
    *("parameters", "input_schema", "inputSchema", "parametersJsonSchema", "parameters_json_schema", "args_schema"),
    *("json_schema", "jsonSchema", "schema", "params", "args", "arguments", "inputs", "parameter_definitions"),
)
_WRAPPERS = ("function", "toolSpec", "tool_spec", "tool")
_LISTS = ("functionDeclarations", "function_declarations", "tools", "functions")
_TYPES = {
    **dict.fromkeys(("str", "string", "text", "character", "char", "date", "datetime", "time"), "string"),
    **dict.fromkeys(("int", "integer", "long"), "integer"),
    **dict.fromkeys(("float", "number", "double", "decimal"), "number"),
    **dict.fromkeys(("bool", "boolean"), "boolean"),
    **dict.fromkeys(("list", "array", "tuple", "set", "sequence"), "array"),
    **dict.fromkeys(("dict", "object", "map", "mapping", "hashmap"), "object"),
    **dict.fromkeys(("null", "none", "nonetype"), "null"),
}
_ITEMS = re.compile(r"\A(\w+)\[(.*)\]\Z", re.DOTALL)
_OPTIONAL = re.compile(r"\Aoptional\[(.*)\]\Z", re.IGNORECASE | re.DOTALL)
_WORDS_AFTER = re.compile(r"\s*,\s*(?:optional|default\b.*|required)\s*\Z", re.IGNORECASE)


def tools_of(item: Any) -> Iterator[Tool]:
    """The tool that an item of a list of tools declares, or those that it groups.

    Raises:
        ValueError: it declares none.
    """
    row = as_object(item)
    for key in _LISTS:
        if isinstance(row.get(key), list) and "name" not in row:
            for inner in row[key]:
                yield from tools_of(inner)
            return
    function = next((row[key] for key in _WRAPPERS if isinstance(row.get(key), dict)), row)
    if row.get("function") is not None and not isinstance(row["function"], dict):
        optional(row, "function", dict)
    yield Tool(
        name=member(function, "name", str),
        description=optional(function, "description", str) or "",
        parameters=_parameters(function),
    )


def _parameters(function: dict[str, Any]) -> dict[str, Any]:
    for key in SCHEMA_KEYS:
        value = function.get(key)
        if isinstance(value, dict) and set(value) == {"json"} and isinstance(value["json"], dict):
            value = value["json"]
        if isinstance(value, dict):
            return schema_of(value) if value else {}
        if isinstance(value, list) and value and all(isinstance(part, dict) and "name" in part for part in value):
            return _named(value)
    if function.get("parameters") is not None:
        optional(function, "parameters", dict)
    others = (value for value in function.values() if isinstance(value, dict) and "properties" in value)
    return schema_of(next(others, {}))


def schema_of(value: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema of an object; parameters that stand without one around them become its properties."""
    is_schema = any(key in value for key in ("properties", "$ref", "anyOf", "oneOf", "allOf", "additionalProperties"))
    if not value or is_schema or not all(isinstance(part, dict) for part in value.values()):
        return _typed(value)
    required = [name for name, part in value.items() if _is_required(part)]
    found: dict[str, Any] = {"type": "object", "properties": {name: _typed(part) for name, part in value.items()}}
    return {**found, "required": required} if required else found


def _is_required(part: dict[str, Any]) -> bool:
    if isinstance(part.get("required"), bool):
        return bool(part["required"])
    kind = part.get("type")
    is_optional = isinstance(kind, str) and "optional" in kind.lower()
    return "default" not in part and not is_optional and not part.get("nullable")


def _named(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Parameters as a list of ``{name, type, description, required}``."""
    return schema_of({member(part, "name", str): {k: v for k, v in part.items() if k != "name"} for part in parts})


def _typed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with the types of JSON, at every depth; a type whose name is not known stays as it is."""
    changed: dict[str, Any] = {}
    kind = schema.get("type")
    if isinstance(kind, str) and kind not in _JSON_TYPES:
        changed |= _type(kind)
    elif kind is not None and not isinstance(kind, str | list):
        changed["type"] = None
    if isinstance(schema.get("required"), bool):
        changed["required"] = None
    for key in ("properties", "$defs", "definitions"):
        if isinstance(schema.get(key), dict):
            changed[key] = {k: _typed(v) if isinstance(v, dict) else v for k, v in schema[key].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            changed[key] = _typed(schema[key])
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(key), list):
            changed[key] = [_typed(part) if isinstance(part, dict) else part for part in schema[key]]
        elif key in schema:
            changed[key] = None
    made = {**schema, **changed}
    return {key: value for key, value in made.items() if value is not None or key not in changed}


_JSON_TYPES = {"string", "integer", "number", "boolean", "array", "object", "null"}


def _type(name: str) -> dict[str, Any]:
    """A type's name in another language, as members of a schema; none where it is not known."""
    text = _WORDS_AFTER.sub("", name.strip())
    if wrapped := _OPTIONAL.match(text):
        text = wrapped[1]
    inner = _ITEMS.match(text)
    kind = _TYPES.get((inner[1] if inner else text).strip().lower())
    if kind is None:
        return {}
    if inner and kind == "array":
        items = _type(inner[2])
        return {"type": kind, "items": items} if items.get("type") else {"type": kind}
    return {"type": kind}
