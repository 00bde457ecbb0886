"""Messages of LangChain and LangGraph: ``type`` instead of ``role``, ``args`` instead of ``arguments``.

A row is a state with ``messages`` (also inside ``values``, ``state`` or ``output``), or the list itself; a file that is
one list is a conversation. Messages may be dumped as they are, as ``{type, data}``, or as constructors (``lc``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import chat_message, declared_tools
from pivotrl.reading.conversation import conversation
from pivotrl.reading.conversation_files import are_messages, read_rows
from pivotrl.reading.fields import each
from pivotrl.reading.formats.langchain_messages import as_chat, fault_of, is_message, message_list, plain_message
from pivotrl.records import Refusal, Trajectory

_KEYS = {"messages", "tools", "id", "task_id", "instance_id", "reward", "score"}
_MAX_DEPTH = 3


def recognises(head: Sequence[Any]) -> bool:
    """States or lists with such messages, or a file of them."""
    if are_messages(head, is_message):
        return True
    return any(message_list(value, _MAX_DEPTH) is not None for value in head)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory per state, or one for the whole file if its values are messages.

    Calls that LangChain could not parse (``invalid_tool_calls``) exclude their turn.

    Raises:
        InputError: the file cannot be read.
    """
    return read_rows(path, is_message, _trajectory)


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
