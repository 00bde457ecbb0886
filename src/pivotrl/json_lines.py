"""What the readers share: strict JSON entries with their place, chat messages, and an audit of what a log lacks.

A file holds one JSON value a line, or is one JSON document (an array of values, or a single one). Whatever is wrong
with it becomes an :class:`InputError` that names file, line and reason; lines are read one at a time.
"""

from __future__ import annotations

import codecs
import functools
import hashlib
import itertools
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from reprlib import repr as short
from typing import Any, BinaryIO, TypeVar

from pydantic import ValidationError

from pivotrl.matching import kind_of, parse_json
from pivotrl.protocols import InputError
from pivotrl.records import Message, Role, Tool, ToolCall, Trajectory
from pivotrl.store import validation_message

T = TypeVar("T")

MAX_LINE_BYTES = 64 << 20
MAX_DOCUMENT_BYTES = 1 << 30
"""A document is held in memory as a whole, lines are not."""

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
"""The roles of chat logs and what they become."""

_NUM_REASONS = 3
"""Skipped entries that the closing warning describes."""


# --- entries of a file --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One JSON value of a file."""

    place: str
    """``runs.jsonl:17``, or ``runs.json, element 3``."""
    number: int
    """Line or element, from 1."""
    load: Callable[[], Any]
    """Parses the value. Raises ValueError with what the place is, such as ``is not JSON: ...``."""


def entries(path: Path) -> Iterator[Entry]:
    """The values of a file of JSON lines or of one JSON document, told apart by the first line that is not blank.

    Raises:
        InputError: the file is missing, a directory, empty, or a document that is not JSON.
    """
    yield from _document(path) if _is_document(path) else _lines(path)


def trajectories(path: Path, convert: Callable[[Any, int], Trajectory], *, skip_bad: bool) -> Iterator[Trajectory]:
    """Each entry of the file as a trajectory.

    Args:
        convert: (value, line or element number) -> trajectory; raises ValueError with a one-line reason.
        skip_bad: leave bad entries out, with one warning at the end that counts them and gives the first reasons.

    Raises:
        InputError: the file cannot be read; an entry is bad or repeats an id (unless skipped); none is good.
    """
    places: dict[str, str] = {}
    num_skipped = 0
    reasons: list[str] = []
    for entry in entries(path):
        try:
            trajectory = _convert(entry, convert)
            if trajectory.id in places:
                raise ValueError(f"repeats the id {short(trajectory.id)} of {places[trajectory.id]}")
        except ValueError as error:
            reason = f"{entry.place} {error}"
            if not skip_bad:
                raise InputError(f"{reason}. Mend it, or leave bad entries out with skip_bad=True") from error
            num_skipped += 1
            reasons += [reason] if len(reasons) < _NUM_REASONS else []
            continue
        places[trajectory.id] = entry.place
        yield trajectory
    if num_skipped:
        told = f"{num_skipped} of {num_skipped + len(places)} entries were skipped: {'; '.join(reasons)}"
        if not places:
            raise InputError(f"{path} holds no usable trajectory: {told}")
        warnings.warn(f"{path}: {told}", stacklevel=2)
    elif not places:
        raise InputError(f"{path} holds no trajectory; give a log with at least one")


def _convert(entry: Entry, convert: Callable[[Any, int], Trajectory]) -> Trajectory:
    value = entry.load()
    try:
        return convert(value, entry.number)
    except ValidationError as error:
        raise ValueError(f"is not a trajectory: {validation_message(error)}") from error
    except ValueError as error:
        raise ValueError(f"is not a trajectory: {error}") from error


def _open(path: Path) -> BinaryIO:
    try:
        if not path.exists():
            raise InputError(f"{path} does not exist; give the file that holds the log")
        if not path.is_file():
            raise InputError(f"{path} is {'a directory' if path.is_dir() else 'no regular file'}; give one file")
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if os.fstat(file.fileno()).st_size == 0:
        file.close()
        raise InputError(f"{path} is empty; give a log with at least one trajectory")
    return file


def _is_document(path: Path) -> bool:
    with _open(path) as file:
        line = b"\n"
        while line and not line.strip():
            line = file.readline(MAX_LINE_BYTES + 1)
    line = line.removeprefix(codecs.BOM_UTF8).strip()
    return line.startswith(b"[") or line == b"{" or (path.suffix == ".json" and not line.endswith(b"}"))


def _lines(path: Path) -> Iterator[Entry]:
    with _open(path) as file:
        for number in itertools.count(1):
            line = rest = file.readline(MAX_LINE_BYTES + 1)
            if not line:
                return
            while len(line) > MAX_LINE_BYTES and rest and not rest.endswith(b"\n"):
                rest = file.readline(1 << 20)  # the rest of a line that is refused
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                yield Entry(f"{path}:{number}", number, functools.partial(_parse_line, line))


def _parse_line(line: bytes) -> Any:
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"is longer than {MAX_LINE_BYTES >> 20} MiB")
    try:
        return parse_json(line.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text (byte {error.start + 1} of the line)") from error
    except JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} (column {error.colno})") from error
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from error


def _document(path: Path) -> Iterator[Entry]:
    with _open(path) as file:
        if os.fstat(file.fileno()).st_size > MAX_DOCUMENT_BYTES:
            raise InputError(f"{path} is one document of over {MAX_DOCUMENT_BYTES >> 30} GiB; make it JSON lines")
        data = file.read()
    try:
        value = parse_json(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start + 1}); convert it") from error
    except JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno} is not JSON: {error.msg} (column {error.colno}); mend it") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}; mend it") from error
    if not isinstance(value, list):
        yield Entry(str(path), 1, lambda: value)
        return
    for number, element in enumerate(value, start=1):
        yield Entry(f"{path}, element {number}", number, functools.partial(lambda item: item, element))


# --- checked access to parsed JSON --------------------------------------------------------------------------------

_KINDS: dict[type, str] = {dict: "object", list: "array", str: "string"}


def as_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"an object is needed, not {kind_of(value)}")
    return value


def optional(row: dict[str, Any], key: str, kind: type[T]) -> T | None:
    """``row[key]`` when it is of that type, None when it is missing or null.

    Raises:
        ValueError: it is of another type.
    """
    value = row.get(key)
    if value is not None and not isinstance(value, kind):
        raise ValueError(f"{key} is {kind_of(value)}, not {_KINDS[kind]}")
    return value


def member(row: dict[str, Any], key: str, kind: type[T]) -> T:
    """``row[key]``, which must be there and of that type."""
    value = optional(row, key, kind)
    if value is None:
        raise ValueError(f"{key} is missing")
    return value


def identifier(row: dict[str, Any], *keys: str) -> str | None:
    """The first of the keys that holds a text or a number that is not empty, as text."""
    for key in keys:
        value = row.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            return str(value)
        if value not in (None, ""):
            raise ValueError(f"{key} is {kind_of(value)}, not a name")
    return None


def each(name: str, items: Sequence[Any], parse: Callable[[Any], T]) -> list[T]:
    """Every item parsed; a fault names the item, such as ``messages[3]``."""
    parsed = []
    for index, item in enumerate(items):
        try:
            parsed.append(parse(item))
        except ValueError as error:
            raise ValueError(f"{name}[{index}]: {error}") from error
    return parsed


# --- chat messages ------------------------------------------------------------------------------------------------


def chat_messages(items: Sequence[Any]) -> tuple[Message, ...]:
    """OpenAI-style messages.

    Raises:
        ValueError: one of them is malformed, has an unknown role or holds more than text; none is the assistant's.
    """
    messages = tuple(each("messages", items, chat_message))
    if not any(message.role == "assistant" for message in messages):
        raise ValueError("no message is the assistant's, so there is no turn to learn from")
    return messages


def chat_message(item: Any) -> Message:
    """One OpenAI-style message, of today's form or of the legacy one with ``function_call``."""
    row = as_object(item)
    name = member(row, "role", str)
    role = ROLES.get(name)
    if role is None:
        raise ValueError(f"unknown role {short(name)}; there are {', '.join(ROLES)}")
    if row.get("audio"):
        raise ValueError("holds audio; only text can be read")
    calls = each("tool_calls", optional(row, "tool_calls", list) or (), tool_call)
    if legacy := row.get("function_call"):
        calls.append(tool_call(legacy))
    if calls and role != "assistant":
        raise ValueError(f"a {name} message with tool calls")
    return Message(
        role=role,
        content=text_of(row.get("content")),
        reasoning=optional(row, "reasoning_content", str) or optional(row, "reasoning", str) or None,
        tool_calls=tuple(calls),
        tool_call_id=optional(row, "tool_call_id", str),
    )


def tool_call(item: Any) -> ToolCall:
    """A tool call of OpenAI's nested form, or flat with ``call_id`` or ``id``."""
    row = as_object(item)
    if row.get("type") not in (None, "function", "function_call"):
        raise ValueError(f"tool call of type {short(row['type'])}; only functions can be read")
    function = optional(row, "function", dict) or row
    return ToolCall(
        name=member(function, "name", str),
        arguments=arguments_text(function.get("arguments")),
        id=optional(row, "call_id", str) or optional(row, "id", str),
    )


def arguments_text(arguments: Any) -> str:
    """Arguments as JSON text: a text as it is, no arguments as ``{}``, anything else written with its keys in order."""
    if isinstance(arguments, str):
        return arguments if arguments.strip() else "{}"
    return "{}" if arguments is None else json.dumps(arguments, ensure_ascii=False)


def text_of(content: Any, part_types: Sequence[str] = ("text", "input_text", "output_text")) -> str | None:
    """The text of a message: a string, null, or a list of text parts, joined by newlines.

    Raises:
        ValueError: there is something else than text, which is named.
    """
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError(f"content is {kind_of(content)}, not text")
    return "\n".join(_part_text(part, part_types) for part in content)


def _part_text(part: Any, part_types: Sequence[str]) -> str:
    kind = part.get("type") if isinstance(part, dict) else kind_of(part)
    if kind not in part_types:
        raise ValueError(f"content part of type {short(kind)}; only text can be read")
    return member(as_object(part), "text", str)


def declared_tools(value: Any) -> tuple[Tool, ...]:
    """Tools in OpenAI's nested form, or flat; a list, or its JSON text."""
    if isinstance(value, str):
        value = parse_json(value)
    return tuple(each("tools", optional({"tools": value}, "tools", list) or (), _tool))


def _tool(item: Any) -> Tool:
    row = as_object(item)
    function = optional(row, "function", dict) or row
    return Tool(
        name=member(function, "name", str),
        description=optional(function, "description", str) or "",
        parameters=optional(function, "parameters", dict) or {},
    )


def task_hash(messages: Sequence[Message], roles: Sequence[Role] = ("system", "user")) -> str:
    """A task id made of the first message of each role, so that runs of one task are known to belong together."""
    first = [next((m.content for m in messages if m.role == role), None) for role in roles]
    return f"task-{hashlib.sha256(json.dumps(first).encode()).hexdigest()[:16]}"


# --- audit --------------------------------------------------------------------------------------------------------


def audit(messages: Sequence[Message], tools: Sequence[Tool]) -> tuple[tuple[int, ...] | None, tuple[str, ...]]:
    """(``turn_indices``, ``lost``) of a trajectory: the turns that can be judged, and what the log lacks.

    Not a candidate is an assistant message that is empty, whose arguments are not JSON, or that calls a tool which is
    not among the declared ones.
    """
    lost = [] if any(message.role == "system" for message in messages) else ["no system message"]
    if not tools and any(message.tool_calls for message in messages):
        lost.append("no tool schemas")
    known = {tool.name for tool in tools}
    turns = [index for index, message in enumerate(messages) if message.role == "assistant"]
    faults = {index: _faults(messages[index], known) for index in turns}
    lost += [f"message {index}: {fault}" for index in turns for fault in faults[index]]
    sound = tuple(index for index in turns if not faults[index])
    return None if len(sound) == len(turns) else sound, (*lost, *_unpaired(messages))


def _faults(message: Message, known: set[str]) -> list[str]:
    if not message.tool_calls and not (message.content or "").strip():
        return ["empty"]
    found = [f"arguments of {c.name} are {fault}" for c in message.tool_calls if (fault := _fault_of(c.arguments))]
    return found + [f"{c.name} is not among the tools" for c in message.tool_calls if known and c.name not in known]


def _fault_of(arguments: str) -> str | None:
    try:
        return None if isinstance(parse_json(arguments), dict) else "not a JSON object"
    except ValueError:
        return "not JSON"


def _unpaired(messages: Sequence[Message]) -> Iterator[str]:
    """Tool results without a call and calls without a result; ids decide, order where a log has none.

    Calls in the very last message lack nothing: the log ends with them.
    """
    waiting: list[tuple[int, ToolCall]] = []
    for index, message in enumerate(messages):
        if message.role == "assistant":
            yield from _unanswered(waiting)
            waiting = [(index, call) for call in message.tool_calls]
        elif message.role == "tool":
            same = [item for item in waiting if item[1].id == message.tool_call_id]
            nameless = [item for item in waiting if None in (item[1].id, message.tool_call_id)]
            if same or nameless:
                waiting.remove((same or nameless)[0])
            else:
                yield f"message {index}: tool result without a call"
    if messages[-1].role != "assistant":
        yield from _unanswered(waiting)


def _unanswered(waiting: Iterable[tuple[int, ToolCall]]) -> Iterator[str]:
    return (f"message {index}: call of {call.name} has no result" for index, call in waiting)
