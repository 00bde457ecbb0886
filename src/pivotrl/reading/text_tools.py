"""Tools that a system message describes: between ``<tools>`` tags, in OpenHands' listing, or as a JSON list in it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from pivotrl.reading.chat_messages import arguments_text, declared_tools
from pivotrl.records import Message, Tool
from pivotrl.records.strict_json import parse_json

MARGIN = re.compile(r"\A(?:\s|\\n)+|(?:\s|\\n)+\Z")
"""Some published rows hold a backslash and an n where a line break was meant."""
_TAGGED = re.compile(r"<tools>((?:(?!<tools>).)*?)</tools>", re.DOTALL)
_LISTED = re.compile(r"-{2,} BEGIN FUNCTION #\d+: (\S+) -{2,}\n(.*?)-{2,} END FUNCTION #\d+ -{2,}", re.DOTALL)
_DESCRIPTION = re.compile(r"Description:\s*(.*?)\s*(?=^Parameters:|^No parameters|\Z)", re.DOTALL | re.MULTILINE)
_PARAMETER = re.compile(
    r"^\s*\(\d+\) (\w+) \((\w+), (required|optional)\): ?(.*?)(?=^\s*\(\d+\) |\Z)", re.DOTALL | re.MULTILINE
)
_XML_TOOL = re.compile(r"<function>(.*?)</function>", re.DOTALL)
_XML_PARAMETER = re.compile(r"<parameter>(.*?)</parameter>", re.DOTALL)
_MAX_TRIES = 20


def tools_in_text(messages: Sequence[Message]) -> tuple[Tool, ...]:
    """The tools that the first system message with any describes."""
    for text in (message.content or "" for message in messages if message.role == "system"):
        for read in (_tagged, _listed, _bare_list):
            with suppress(ValueError):
                if tools := read(text):
                    return tools
    return ()


def literal(text: str) -> Any:
    """A JSON value, or a Python literal as in old rows.

    Raises:
        ValueError: it is neither.
    """
    text = MARGIN.sub("", text)
    try:
        return parse_json(text)
    except ValueError as error:
        try:
            value = ast.literal_eval(text)
            return parse_json(arguments_text(value))  # a set, or a number that is not finite, is refused
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            raise ValueError(f"neither JSON nor a Python literal: {error}") from error


def _tagged(text: str) -> tuple[Tool, ...]:
    for block in _TAGGED.findall(text):
        block = MARGIN.sub("", block)
        for read in (_whole, _lines, _xml):
            with suppress(ValueError):
                if tools := declared_tools(read(block)):
                    return tools
    return ()


def _whole(block: str) -> list[Any]:
    value = literal(block)
    return value if isinstance(value, list) else [value]


def _lines(block: str) -> list[Any]:
    return [literal(line) for line in block.splitlines() if line.strip()]


def _xml(block: str) -> list[Any]:
    """How Qwen3-Coder's template writes tools."""
    return [
        {
            "name": _inner(tool, "name"),
            "description": _inner(_XML_PARAMETER.sub("", tool), "description"),
            "parameters": {
                "type": "object",
                "properties": {_inner(part, "name"): _xml_schema(part) for part in _XML_PARAMETER.findall(tool)},
            },
        }
        for tool in _XML_TOOL.findall(block)
    ]


def _xml_schema(part: str) -> dict[str, Any]:
    found = {"type": _inner(part, "type"), "description": _inner(part, "description")}
    return {key: value for key, value in found.items() if value}


def _inner(text: str, tag: str) -> str:
    found = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return found[1].strip() if found else ""


def _listed(text: str) -> tuple[Tool, ...]:
    return declared_tools([_listed_tool(name, body) for name, body in _LISTED.findall(text)])


def _listed_tool(name: str, body: str) -> dict[str, Any]:
    description = _DESCRIPTION.search(body)
    parts = _PARAMETER.findall(body)
    required = [key for key, _, need, _ in parts if need == "required"]
    properties = {
        key: {"type": kind, **({"description": told.strip()} if told.strip() else {})} for key, kind, _, told in parts
    }
    return {
        "name": name,
        "description": description[1] if description else "",
        "parameters": {"type": "object", "properties": properties, **({"required": required} if required else {})},
    }


def _bare_list(text: str) -> tuple[Tool, ...]:
    """The first JSON list of objects with a name and parameters that stands in the text."""
    for value in _lists(text):
        if all(isinstance(item, dict) for item in value):
            with suppress(ValueError):
                tools = declared_tools(value)
                if tools and all("parameters" in json.dumps(item) for item in value):
                    return tools
    return ()


def _lists(text: str) -> Iterator[list[Any]]:
    decoder = json.JSONDecoder()
    for found, _ in zip(re.finditer(r"\[\s*\{", text), range(_MAX_TRIES), strict=False):
        with suppress(ValueError, RecursionError):
            _, end = decoder.raw_decode(text, found.start())
            yield parse_json(text[found.start() : end])
