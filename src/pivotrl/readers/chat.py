"""Chat logs in the style of OpenAI's chat completions, one trajectory a row.

A row holds ``messages``, or ``prompt`` and ``completion`` (lists of messages, or texts) as TRL and verifiers write
them; and optionally ``tools``, ``system``, ``id`` (or ``trajectory_id``), ``task_id`` (or ``example_id``), ``reward``
(or ``score``). Other keys are kept as ``metadata["foreign"]``. Lists may be JSON text, as tables hold them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.logs.chat_messages import ROLES, chat_messages, declared_tools, task_hash
from pivotrl.logs.fields import as_object, identifier, json_text, optional
from pivotrl.logs.sources import Entry, convert_entries
from pivotrl.records import Loss, Message, Refusal, Tool, Trajectory
from pivotrl.strict_json import kind_of, parse_json

_KEYS = {
    *("messages", "prompt", "completion", "tools", "functions", "tool_defs", "system"),
    *("id", "trajectory_id", "task_id", "example_id", "reward", "score"),
}
_ELSEWHERE = {
    *("trajectory_format", "responses_create_params", "fncall_messages", "termination_reason", "simulations"),
    *("schema_version", "traj", "events", "response", "scores"),
}
"""Keys of other formats whose rows have messages too."""
_PARTS = {"text", "image_url", "image", "input_audio", "file", "input_text", "output_text", "input_image"}


def recognises(head: Sequence[Any]) -> bool:
    """Rows of messages with OpenAI's roles and no calls or parts that another format writes into them."""
    return any(_is_row(value) for value in head)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory a row.

    Without an id a trajectory is called after its file and line; without a task id, runs that begin with the same
    system and user messages count as one task. The assistant's messages in a ``prompt`` are context.

    Raises:
        InputError: the file cannot be read.
    """

    def convert(value: Any, entry: Entry) -> Trajectory:
        row = as_object(value)
        items, num_given = _items(row)
        losses: list[Loss] = []
        messages = chat_messages(items, losses)
        losses += [Loss(code="text_mode", message=i) for i, m in enumerate(messages) if _has_call_in_text(m)]
        foreign = {key: value for key, value in row.items() if key not in _KEYS}
        reward: Any = row.get("score") if row.get("reward") is None else row["reward"]
        return Trajectory(
            id=identifier(row, "id", "trajectory_id") or f"{path.stem}-{entry.number}",
            task_id=identifier(row, "task_id", "example_id") or task_hash(messages),
            messages=messages,
            tools=_tools(row.get("tools") or row.get("functions") or row.get("tool_defs")),
            reward=reward,
            excluded={i: "context_only" for i, m in enumerate(messages[:num_given]) if m.role == "assistant"},
            metadata={"foreign": foreign} if foreign else {},
            losses=tuple(losses),
        )

    return convert_entries(path, convert)


def _items(row: dict[str, Any]) -> tuple[list[Any], int]:
    """(messages, how many of them were only given)."""
    if row.get("messages") is not None:
        given, made = [], _list(row["messages"], "messages", "")
    elif row.get("completion") is not None:
        given, made = _list(row.get("prompt"), "prompt", "user"), _list(row["completion"], "completion", "assistant")
    else:
        raise ValueError("messages is missing, and there is no prompt with its completion")
    system = optional(row, "system", str)
    if system and not any(isinstance(item, dict) and item.get("role") == "system" for item in [*given, *made]):
        given = [{"role": "system", "content": system}, *given]
    return [*given, *made], len(given)


def _list(value: Any, name: str, speaker: str) -> list[Any]:
    """A list of messages, its JSON text, or the text of a single message of the speaker."""
    if isinstance(value, str) and speaker:
        return [{"role": speaker, "content": value}]
    if isinstance(value, str):
        value = json_text(name, value)
    if not isinstance(value, list):
        raise ValueError(f"{name} is {kind_of(value)}, not array")
    return [item if isinstance(item, dict) and "tool_calls" not in item else _decoded_message(item) for item in value]


def _decoded_message(item: Any) -> Any:
    """A message of which the whole, its calls or each of them may be JSON text."""
    item = _decoded(item)
    calls = item.get("tool_calls") if isinstance(item, dict) else None
    if isinstance(calls, str):
        calls = _decoded(calls)
    elif not isinstance(calls, list) or not any(isinstance(call, str) for call in calls):
        return item
    return {**item, "tool_calls": [_decoded(call) for call in calls] if isinstance(calls, list) else calls}


def _decoded(value: Any) -> Any:
    """The value of a JSON text of an object or array; what is none stays as it is."""
    return parse_json(value) if isinstance(value, str) and value.lstrip()[:1] in ("{", "[") else value


def _tools(value: Any) -> tuple[Tool, ...]:
    """Rows of one log declare the same tools: known ones are not decoded again."""
    if value is None:
        return ()
    return _parsed(value if isinstance(value, str) else json.dumps(value))


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> tuple[Tool, ...]:
    return declared_tools(_decoded_tools(json_text("tools", text)))


def _decoded_tools(value: Any) -> Any:
    """Tools whose schemas, or parts of them, may be JSON text: rows of a table differ in them."""
    value = _decoded(value)
    if isinstance(value, list):
        return [_decoded_tools(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _decoded_tools(item) if key in ("function", "parameters", "properties") else item
        for key, item in value.items()
    }


def _has_call_in_text(message: Message) -> bool:
    return message.role == "assistant" and not message.tool_calls and "<tool_call>" in (message.content or "")


def _is_row(value: Any) -> bool:
    if not isinstance(value, dict) or _ELSEWHERE & value.keys():
        return False
    if isinstance(value.get("completion"), str):
        return isinstance(value.get("prompt"), str | list)
    items = value.get("messages", value.get("completion"))
    return isinstance(items, list) and bool(items) and all(_is_message(item) for item in items)


def _is_message(item: Any) -> bool:
    if isinstance(item, str):
        return item.startswith('{"') and '"role"' in item
    if not isinstance(item, dict) or not isinstance(item.get("role"), str) or item["role"] not in ROLES:
        return False
    content = item.get("content")
    if isinstance(content, list):
        return all(isinstance(part, dict) and "value" not in part and part.get("type") in _PARTS for part in content)
    return not (item["role"] == "assistant" and isinstance(content, str) and "<tool_call>" in content)
