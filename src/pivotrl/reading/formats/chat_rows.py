"""Find the messages of a row, and which of them are only context.

Lists of many names (``messages``, ``trajectory``, ``conversation``, ...), also inside an object and as JSON text;
``prompt`` with ``completion``; the chosen side of a preference pair; ART's messages and choices.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pivotrl.reading.chat_messages import ROLES
from pivotrl.reading.fields import optional
from pivotrl.reading.text_tools import literal
from pivotrl.reading.turn_marks import keys_of, marked_turns
from pivotrl.records.strict_json import kind_of, parse_json

LISTS = ("messages", "trajectory", "messages_and_choices")
"""Names that are looked at first; any other list of messages counts where none of these is there."""
_PAIRS = (
    *(("completion", "prompt"), ("chosen", "prompt"), ("chosen", "input"), ("response", "prompt")),
    *(("output", "instruction"), ("response", "instruction"), ("preferred_output", "input")),
)
_OTHERS = re.compile(
    r"reject|negative|judge|grad(?:er|ing)|critic|verif|rubric|reference|expected|target|gold|ground_truth|example"
    r"|few_?shot|demo|request|response|\A(?:inputs?|outputs?|prompt|kwargs|bad)\Z",
    re.IGNORECASE,
)
"""Names of what must never be taken for the conversation: the other side of a pair, a grader's talk, half of a call."""
_PARTS = (
    *("text", "image_url", "image", "input_audio", "file", "document", "input_text", "output_text", "input_image"),
    *("thinking", "reasoning", "think", "redacted_thinking"),
)
_MAX_DEPTH = 2


@dataclass(frozen=True)
class ChatRow:
    """The messages of a row, unchanged."""

    items: list[Any]
    used: frozenset[str]
    """Keys of the row that held them."""
    excluded: dict[int, str]
    """Turns that are context: given, or marked so; or cut."""


def chat_row(row: dict[str, Any]) -> ChatRow:
    """The messages of a row.

    Raises:
        ValueError: there are none.
    """
    given, made, used = _found(row)
    items = [*given, *made] if given else made
    excluded = dict.fromkeys(range(len(given)), "context_only")
    keys = keys_of(items)
    if "message" in keys and (choices := [i for i, item in enumerate(items) if _is_choice(item)]):
        if "messages_and_choices" in used:
            excluded |= {i: "context_only" for i in range(len(items)) if i not in set(choices)}
        excluded |= {i: "truncated" for i in choices if items[i].get("finish_reason") == "length"}
        items = [item["message"] if _is_choice(item) else item for item in items]
        keys |= keys_of(items)
    if "tool_responses" in keys and not given:
        items = [part for item in items for part in _results(item)]
    excluded |= marked_turns(items, row, keys)
    system = _system(row)
    if system is not None and not any(isinstance(item, dict) and item.get("role") == "system" for item in items):
        items = [{"role": "system", "content": system}, *items]
        excluded = {i + 1: reason for i, reason in excluded.items()}
    return ChatRow(items, used, excluded)


def _results(item: Any) -> list[Any]:
    """The results that AutoGen 0.2 puts into one message; any other message as it is."""
    results = item.get("tool_responses") if isinstance(item, dict) else None
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        return [item]
    return [{"role": "tool", **result} for result in results] or [item]


def is_message(item: Any) -> bool:
    """An OpenAI-style message, or its JSON text."""
    if isinstance(item, str):
        return item.startswith('{"') and '"role"' in item
    if _is_choice(item):
        item = item["message"]
    if not isinstance(item, dict) or not isinstance(item.get("role"), str) or item["role"] not in ROLES:
        return False
    if "toolInvocations" in item or isinstance(item.get("parts"), list):
        return False  # of Vercel's SDK: its calls would be lost
    content = item.get("content")
    if isinstance(content, list):
        return all(isinstance(part, dict) and "value" not in part and part.get("type") in _PARTS for part in content)
    return (content is None or isinstance(content, str)) and ("content" in item or "tool_calls" in item)


def message_list(value: Any) -> list[Any] | None:
    """A list of messages, or the JSON text of one; None for anything else."""
    if isinstance(value, str):
        value = _text_list(value)
    return value if isinstance(value, list) and value and all(map(is_message, value)) else None


def _text_list(text: str) -> Any:
    """The list that a text holds as JSON, or as Python writes one."""
    if not text.lstrip().startswith("[") or "role" not in text:
        return None
    try:
        return literal(text)
    except ValueError:
        return None


def lists_in(row: dict[str, Any], depth: int = _MAX_DEPTH) -> Iterator[tuple[str, list[Any]]]:
    """(key, list) of each list of messages in which the assistant speaks, in the row or in an object inside it."""
    for key, value in row.items():
        if _OTHERS.search(key):
            continue
        if isinstance(value, dict) and depth:
            yield from ((key, found) for _, found in lists_in(value, depth - 1))
        elif (found := message_list(value)) is not None and any(map(_speaks, found)):
            yield key, found


def _found(row: dict[str, Any]) -> tuple[list[Any], list[Any], frozenset[str]]:
    """(messages that were given, messages that were made, keys)."""
    if row.get("messages") is not None and not isinstance(row["messages"], dict):
        return [], _list(row["messages"], "messages", ""), frozenset({"messages"})
    for made, given in _PAIRS:
        if row.get(made) is not None:
            question = row.get(given) if row.get(given) is not None else []
            if given == "instruction" and isinstance(question, str) and isinstance(row.get("input"), str):
                question = f"{question}\n\n{row['input']}".strip()  # as in Alpaca's rows
            if isinstance(question, dict) and "messages" in question:
                question = question["messages"]
            asked = _list(question, given, "user")
            answer = _list(row[made], made, "assistant")
            if made == "chosen":
                asked, answer = _told_apart(asked, answer, row.get("rejected"))
            return asked, answer, frozenset({made, given, *(("input",) if given == "instruction" else ())})
    for name in LISTS[1:]:
        if isinstance(row.get(name), list | str):
            return [], _list(row[name], name, ""), frozenset({name})
    lists = list(lists_in(row))
    if lists:
        key, items = max(lists, key=lambda found: len(found[1]))
        if others := sorted({name for name, found in lists if found != items[: len(found)]}):
            raise ValueError(f"{key} and {', '.join(others)} are lists of messages; call the conversation messages")
        return [], _list(items, key, ""), frozenset({key})
    if isinstance(row.get("messages"), dict):
        raise ValueError("messages is object, not array")
    raise ValueError("messages is missing, and there is no prompt with its completion")


def _told_apart(asked: list[Any], chosen: list[Any], rejected: Any) -> tuple[list[Any], list[Any]]:
    """A pair without a prompt: what both sides have in common was given."""
    if asked:
        return (asked, chosen[len(asked) :]) if chosen[: len(asked)] == asked else (asked, chosen)
    other = message_list(rejected) or chosen
    same = 0
    for one, two in zip(chosen[:-1], other, strict=False):
        if one != two:
            break
        same += 1
    return chosen[:same], chosen[same:]


def _is_choice(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("message"), dict) and "role" not in item


def _speaks(item: Any) -> bool:
    if isinstance(item, str):
        return '"assistant"' in item
    message = item["message"] if _is_choice(item) else item
    return isinstance(message, dict) and message.get("role") == "assistant"


def _system(row: dict[str, Any]) -> Any:
    for key in ("system", "system_prompt"):
        value = row.get(key)
        if value and isinstance(value, list | str):
            return value
        if key == "system":
            optional(row, key, str)
    return None


def _list(value: Any, name: str, speaker: str) -> list[Any]:
    """A list of messages, its JSON text, or the text of a single message of the speaker."""
    if isinstance(value, str) and speaker:
        return message_list(value) or [{"role": speaker, "content": value}]
    if isinstance(value, dict) and speaker and "role" in value:
        value = [value]
    if isinstance(value, str):
        try:
            value = literal(value) if value.strip() else None
        except ValueError as error:
            raise ValueError(f"{name} is text that is not JSON: {error}") from error
    if not isinstance(value, list):
        raise ValueError(f"{name} is {kind_of(value)}, not array")
    return [item if type(item) is dict and "tool_calls" not in item else _decoded_message(item) for item in value]


def _decoded_message(item: Any) -> Any:
    """A message of which the whole, its calls or each of them may be JSON text."""
    calls = item.get("tool_calls") if type(item) is dict else None
    if type(calls) is list and calls and type(calls[0]) is dict:
        return item  # as most logs have it
    item = decoded(item)
    calls = item.get("tool_calls") if isinstance(item, dict) else None
    if isinstance(calls, str):
        calls = decoded(calls) if calls.strip() else None
    elif not isinstance(calls, list) or not any(isinstance(call, str) for call in calls):
        return item
    return {**item, "tool_calls": [decoded(call) for call in calls] if isinstance(calls, list) else calls}


def decoded(value: Any) -> Any:
    """The value of a JSON text of an object or array; what is none stays as it is."""
    return parse_json(value) if isinstance(value, str) and value.lstrip()[:1] in ("{", "[") else value
