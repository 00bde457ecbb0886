"""Messages of LangChain and LangGraph: ``type`` instead of ``role``, ``args`` instead of ``arguments``.

A row is a state with ``messages`` (also inside ``values``, ``state`` or ``output``), or the list itself; a file that is
one list is a conversation. Rows of a table of a chat memory (LangChain's, n8n's) are a conversation for each
``session_id``. Messages may be dumped as they are, as ``{type, data}``, or as constructors (``lc``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import chat_message, declared_tools
from pivotrl.reading.conversation import conversation
from pivotrl.reading.conversation_files import are_messages, read_rows
from pivotrl.reading.fields import as_object, each, json_text
from pivotrl.reading.formats.langchain_messages import as_chat, fault_of, is_message, message_list, plain_message
from pivotrl.reading.sources import entries, head, refusal
from pivotrl.records import Refusal, Trajectory

_KEYS = {"messages", "tools", "id", "task_id", "instance_id", "reward", "score"}
_MAX_DEPTH = 3


def recognises(values: Sequence[Any]) -> bool:
    """States or lists with such messages, or a file of them."""
    if are_messages(values, is_message) or _are_session_rows(values):
        return True
    return any(message_list(value, _MAX_DEPTH) is not None for value in values)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory per state, or one for the whole file if its values are messages.

    Calls that LangChain could not parse (``invalid_tool_calls``) exclude their turn.

    Raises:
        InputError: the file cannot be read.
    """
    if _are_session_rows(head(path)):
        return _sessions(path)
    return read_rows(path, is_message, _trajectory)


def _are_session_rows(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(row, dict) and "session_id" in row and _stored(row) for row in values)


def _stored(row: dict[str, Any]) -> Any:
    """The message of a row of a chat memory's table, which may be JSON text; None if there is none."""
    value = row.get("message")
    try:
        value = json_text("message", value) if isinstance(value, str) and value.startswith("{") else value
    except ValueError:
        return None
    return value if is_message(value) else None


def _sessions(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory for each ``session_id``; a session with a damaged row is refused."""
    sessions: dict[str, list[Any]] = {}
    for entry in entries(path):
        try:
            row = as_object(entry.load())
            if (item := _stored(row)) is None:
                raise ValueError("there is no message of type human, ai, system or tool")
            sessions.setdefault(str(row.get("session_id")), []).append(item)
        except ValueError as error:
            yield refusal(entry.place, error)
            return
    for name, items in sessions.items():
        try:
            yield _trajectory({"messages": items, "id": name}, name)
        except ValueError as error:
            yield refusal(f"{path}: session {name}", error)


def _trajectory(row: dict[str, Any], name: str) -> Trajectory:
    items = message_list(row, _MAX_DEPTH)
    if items is None:
        raise ValueError("there is no list of messages of type human, ai, system or tool")
    plain = each("messages", items, plain_message)
    return conversation(
        row,
        name,
        plain,
        lambda item, lost: [chat_message(as_chat(item), lost)],
        barred={index: reason for index, item in enumerate(plain) if (reason := fault_of(item))},
        foreign={k: v for k, v in row.items() if k not in _KEYS and not isinstance(v, dict | list)},
        tools=declared_tools(row.get("tools")),
    )
