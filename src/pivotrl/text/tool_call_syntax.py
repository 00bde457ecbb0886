"""Building blocks of written tool calls: JSON inside other text, and the reasons for refusing it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pivotrl.records import Action, Tool, ToolCall

THOUGHT = ("<think>", "</think>")
"""The marks before and after a thought."""

_KINDS: dict[str, tuple[type, ...]] = {"string": (str,), "array": (list,), "boolean": (bool,), "number": (int, float)}
_BLANKS = re.compile(r"\s*")
_OBJECT = re.compile(r"""(?:\[\s*)?\{\s*(?:["']|$)""")
"""The beginning of an object, or of a list of them: not of ``{1, 2}``, ``{x | x > 0}`` or ``{{ name }}``."""
_SHORTEST_STUMP = 5
"""Length of a truncated opening mark that cannot be ordinary text."""


@dataclass(frozen=True)
class Field:
    """A member of a JSON answer; of an array, ``items`` are the members of each of its objects."""

    kind: str
    required: bool = True
    items: Mapping[str, Field] | None = None


class Unparsable(ValueError):
    """A completion is not a well-formed action; the message is a short stable reason code."""


def skip_blanks(text: str, position: int) -> int:
    found = _BLANKS.match(text, position)
    assert found is not None
    return found.end()


def read_json(text: str, position: int) -> tuple[Any, int]:
    """The JSON value that begins at a position, and where it ends. Duplicate keys and NaN are not JSON.

    Raises:
        Unparsable: ``tool_call_is_not_json``.
    """
    try:
        value, end = _DECODER.raw_decode(text, position)
    except (ValueError, RecursionError):
        raise Unparsable("tool_call_is_not_json") from None
    return value, end


def read_call(text: str, position: int, arguments_key: str) -> tuple[ToolCall, int]:
    """The tool call written as a JSON object at a position, and where it ends. Its arguments stay the text they were.

    Raises:
        Unparsable: ``tool_call_is_not_json``, ``tool_call_has_no_name``, or ``tool_call_has_no_arguments``: there is
            none under that key, but something under another one.
    """
    value, end = read_json(text, position)
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise Unparsable("tool_call_has_no_name")
    if arguments_key not in value:
        if value.keys() - {"name", "id", "type"}:
            raise Unparsable("tool_call_has_no_arguments")
        return ToolCall(name=value["name"]), end
    arguments = value[arguments_key]
    raw = arguments if isinstance(arguments, str) else _member_text(text, position, arguments_key)
    return ToolCall(name=value["name"], arguments=raw), end


def calls_after(
    text: str, mark: str, read: Callable[[int], tuple[Sequence[ToolCall], int]]
) -> tuple[str, list[ToolCall]]:
    """(the text beside the calls, the calls)

    Args:
        mark: what stands before calls.
        read: the calls that begin at a position, and where they end.

    Raises:
        Unparsable: as ``read``; ``tool_call_is_malformed`` when the arguments are nested without end.
    """
    beside, calls, position = "", list[ToolCall](), 0
    while (start := text.find(mark, position)) >= 0:
        beside += text[position:start]
        try:
            found, position = read(start + len(mark))
        except RecursionError:
            raise Unparsable("tool_call_is_malformed") from None
        calls += found
    return beside + text[position:], calls


def is_bare_call(text: str, position: int, tools: Sequence[Tool]) -> bool:
    """Whether the JSON at a position, without any mark before it, is a tool call and not a message in JSON.

    A call has a name, and arguments or parameters; where the tools are known, it names one of them or has nothing else.
    A tool's name alone is a call without arguments. An object that is broken or cut off counts as a call.
    """
    try:
        value, _ = json.JSONDecoder().raw_decode(text, position)
    except (ValueError, RecursionError):
        return _OBJECT.match(text, position) is not None
    values = value if isinstance(value, list) else [value]
    return any(isinstance(item, dict) and _is_call(item, {tool.name for tool in tools}) for item in values)


def is_json(text: str) -> bool:
    """Whether a text is one JSON value."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def json_call(call: ToolCall, arguments_key: str) -> str:
    """A call as a JSON object; arguments that are not JSON are written as a string."""
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        arguments = call.arguments
    return json.dumps({"name": call.name, arguments_key: arguments}, ensure_ascii=False)


def canonical_arguments(call: ToolCall) -> str:
    """The arguments of a call in the spelling of ``json.dumps``, other alphabets unescaped.

    Raises:
        ValueError: they are not a JSON object.
    """
    try:
        value = _DECODER.decode(call.arguments)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the arguments of {call.name} are not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"the arguments of {call.name} are not a JSON object")
    return text


def action_of(text: str, calls: Sequence[ToolCall], marks: Sequence[str] = ()) -> Action:
    """The action of some calls and the text beside them, when that holds no thought and no mark of a call.

    Args:
        marks: what must not be left in the text; nor may it end in the beginning of one.

    Raises:
        Unparsable: ``tool_call_not_closed``, ``thought_not_closed``, ``thought_inside_text``.
    """
    if any(mark in text or ends_in_stump(text, mark) for mark in marks):
        raise Unparsable("tool_call_not_closed")
    opened, closed = THOUGHT[0] in text, THOUGHT[1] in text
    if (opened and not closed) or ends_in_stump(text, THOUGHT[0]):
        raise Unparsable("thought_not_closed")
    if opened or closed:
        raise Unparsable("thought_inside_text")
    return Action(content=text.strip() or None, tool_calls=tuple(calls))


def answer_action(text: str, members: Mapping[str, Field]) -> Action:
    """The action of a completion that is one JSON object with these members and no others: its text.

    Raises:
        Unparsable: ``answer_is_not_json``, ``answer_breaks_schema``. Nothing at all is an empty action.
    """
    text = text.strip()
    if not text:
        return Action()
    try:
        value, end = read_json(text, 0)
    except Unparsable:
        raise Unparsable("answer_is_not_json") from None
    if end < len(text):
        raise Unparsable("answer_is_not_json")
    _check(value, members)
    return Action(content=text)


def answer_text(action: Action, style: str) -> str:
    """The text of an action that was read with :func:`answer_action`.

    Raises:
        ValueError: it has tool calls.
    """
    if action.tool_calls:
        raise ValueError(f"{style} cannot write a tool call")
    return action.content or ""


def single_call(action: Action, style: str) -> ToolCall | None:
    """The only call of an action, for styles that write one at most.

    Raises:
        ValueError: there are several.
    """
    if len(action.tool_calls) > 1:
        raise ValueError(f"{style} writes one tool call, not {len(action.tool_calls)}")
    return action.tool_calls[0] if action.tool_calls else None


def _is_call(value: Mapping[str, Any], names: set[str]) -> bool:
    has_arguments = not value.keys().isdisjoint({"arguments", "parameters"})
    if not isinstance(value.get("name"), str):  # with its name under another key it is a call, if a broken one
        nested = value.get("function")
        named = has_arguments and any(isinstance(item, str) and item in names for item in value.values())
        return named or (isinstance(nested, Mapping) and _is_call(nested, names))
    known, bare = value["name"] in names, value.keys() <= {"name", "arguments", "parameters", "id", "type"}
    return known or bare or not names if has_arguments else known and bare


def _check(value: Any, members: Mapping[str, Field]) -> None:
    if not isinstance(value, dict) or value.keys() - members.keys():
        raise Unparsable("answer_breaks_schema")
    for name, member in members.items():
        if name not in value:
            if member.required:
                raise Unparsable("answer_breaks_schema")
            continue
        part = value[name]
        if type(part) not in _KINDS[member.kind]:
            raise Unparsable("answer_breaks_schema")
        for item in part if member.items is not None else ():
            _check(item, member.items or {})


def ends_in_stump(text: str, mark: str) -> bool:
    """Whether a text ends in a truncated mark."""
    return any(text.endswith(mark[:length]) for length in range(_SHORTEST_STUMP, len(mark)))


def _member_text(text: str, position: int, key: str) -> str:
    """The text of a member's value in the JSON object that begins at a position and is known to have it."""
    position += 1
    while True:
        name, position = _DECODER.raw_decode(text, skip_blanks(text, position))
        position = skip_blanks(text, skip_blanks(text, position) + 1)
        _, end = _DECODER.raw_decode(text, position)
        if name == key:
            return text[position:end]
        position = skip_blanks(text, end) + 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)


def function_tool(tool: Tool) -> dict[str, Any]:
    """A tool in OpenAI's nested form."""
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
    }
