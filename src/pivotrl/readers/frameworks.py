"""Conversations that agent frameworks save: AutoGen 0.4, Semantic Kernel, Haystack, LlamaIndex, Pydantic AI, Goose,
Mistral's conversations and OpenAI's threads.

A row is a list of messages, or holds one under ``messages``, ``entries``, ``data`` or ``chat_history``, or several
under ``store``; a file that is one list is a conversation. A conversation of several agents is refused, because a
reader cannot tell whose turns are to be learned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import declared_tools, one_message
from pivotrl.reading.conversation import conversation
from pivotrl.reading.conversation_files import are_messages, read_rows
from pivotrl.reading.fields import as_object, each
from pivotrl.reading.formats.framework_messages import DIALECTS, Chat, Dialect
from pivotrl.records import Refusal, Trajectory

_LISTS = ("messages", "entries", "data", "chat_history", "history", "conversation")
_STORES = ("store", "chat_stores")
_KEYS = {*_LISTS, *_STORES, "tools", "id", "task_id", "instance_id", "reward", "score"}


def recognises(head: Sequence[Any]) -> bool:
    """Rows or lists of such messages, or a file of them."""
    return are_messages(head, _is_message) or any(any(_lists(value)) for value in head)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory per conversation. A list that begins with the newest message is turned round.

    Raises:
        InputError: the file cannot be read.
    """
    return read_rows(path, _is_message, _trajectories)


def _trajectories(row: Chat, name: str) -> list[Trajectory]:
    found = list(_lists(row))
    if not found:
        raise ValueError("there is no list of messages of one framework")
    if len(found) == 1:
        return [_trajectory(row, name, found[0][1])]
    about = {key: value for key, value in row.items() if key not in _STORES}
    return [_trajectory(about, f"{name}-{key}", items) for key, items in found]


def _trajectory(row: Chat, name: str, items: list[Any]) -> Trajectory:
    rows = each("messages", items, as_object)
    if row.get("has_more") is True:
        raise ValueError("has_more: this is one page of the conversation; write all of it to the file")
    dialect = _dialect(rows)
    assert dialect is not None  # as the list was found by it
    if dialect.newest_first:
        key = dialect.newest_first
        if all(isinstance(item.get(key), int) for item in rows):
            rows = rows[::-1] if rows[0][key] > rows[-1][key] else rows  # for messages of one second
            rows = sorted(rows, key=lambda item: item[key])
    said = each("messages", rows, dialect.chat)
    _require_one_agent(dialect, rows, said)
    chats = [{**chat, "is_cut": _is_cut(row)} for row, part in zip(rows, said, strict=True) for chat in part]
    if dialect.is_in_pieces:
        chats = _joined(chats)

    return conversation(
        row,
        name,
        chats,
        one_message,
        barred={place: "truncated" for place, chat in enumerate(chats) if chat["is_cut"]},
        foreign={key: value for key, value in row.items() if key not in _KEYS and not isinstance(value, dict | list)},
        tools=declared_tools(row.get("tools")),
        system=_instructions(rows),
    )


def _is_cut(row: Chat) -> bool:
    """Whether a message says that it ended at a limit, or was not finished."""
    about = [row, *(row[key] for key in ("meta", "metadata") if isinstance(row.get(key), dict))]
    ends = {str(place.get(key)).lower() for place in about for key in ("finish_reason", "FinishReason")}
    return bool(ends & {"length", "max_tokens", "finishreason.length"}) or row.get("status") == "incomplete"


def _instructions(rows: Sequence[Chat]) -> str | None:
    """The system message that Pydantic AI keeps beside the parts of a request."""
    told = {row["instructions"] for row in rows if isinstance(row.get("instructions"), str)}
    if len(told) > 1:
        raise ValueError("the instructions change within the conversation")
    return told.pop() if told else None


def _require_one_agent(dialect: Dialect, rows: Sequence[Chat], said: Sequence[list[Chat]]) -> None:
    if dialect.speaker is None:
        return
    pairs = zip(rows, said, strict=True)
    names = {str(row.get(dialect.speaker)) for row, made in pairs if any(m["role"] == "assistant" for m in made)}
    if len(names) > 1:
        raise ValueError(f"several agents speak ({', '.join(sorted(names))[:80]}); write one conversation for each")


def _joined(chats: Sequence[Chat]) -> list[Chat]:
    """Calls that follow each other, without a result between them, as one answer."""
    made: list[Chat] = []
    for chat in chats:
        if made and chat.get("tool_calls") and made[-1].get("tool_calls"):
            made[-1] = {**made[-1], "tool_calls": [*made[-1]["tool_calls"], *chat["tool_calls"]]}
        else:
            made.append(chat)
    return made


def _lists(value: Any) -> Iterator[tuple[str, list[Any]]]:
    """(key, list) of each conversation in a value."""
    if isinstance(value, list):
        value = value[1:] if value[:1] and _is_header(value[0]) else value
        if _dialect(value) is not None:
            yield "messages", value
        return
    if not isinstance(value, dict):
        return
    for key in _LISTS:
        items = value.get(key)
        if isinstance(items, list) and any(found := list(_lists(items))):
            yield key, found[0][1]
            return
    for key in _STORES:
        if isinstance(value.get(key), dict):
            yield from ((str(k), items) for k, items in value[key].items() if _dialect(items) is not None)


def _dialect(items: Any) -> Dialect | None:
    """The framework whose messages these are, all of them."""
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        return None
    return next((dialect for dialect in DIALECTS if all(map(dialect.is_message, items))), None)


def _is_header(item: Any) -> bool:
    """The line with which a session of Goose begins."""
    return isinstance(item, dict) and "working_dir" in item and "role" not in item


def _is_message(item: Any) -> bool:
    return isinstance(item, dict) and any(dialect.is_message(item) for dialect in DIALECTS)
