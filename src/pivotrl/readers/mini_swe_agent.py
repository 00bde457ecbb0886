"""Trajectories of mini-swe-agent (``.traj.json``): with tool calls, with commands as text, or of the Responses API.

Formats ``mini-swe-agent-1`` (package 1.x, text only) and ``mini-swe-agent-1.1`` (2.x), and the bare list of messages
that early versions wrote. The tool ``bash(command)`` is declared only where the log holds its schema, as the Responses
API returns it; a chat completion does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import task_hash
from pivotrl.reading.fields import as_object, identifier, member, optional
from pivotrl.reading.formats.response_items import conversation, response_tools
from pivotrl.reading.sources import Entry, convert_entries, entries, head, refusal
from pivotrl.records import Loss, Message, Refusal, Tool, Trajectory

_FORMATS = ("mini-swe-agent-1", "mini-swe-agent-1.1")
_FENCE = "```mswea_bash_command"
_REFUSALS = ("FormatError", "UserRejection")
"""Interruptions after which the model's answer was not carried out."""
_OLD_FORMAT_ERROR = "Please always provide EXACTLY ONE action in triple backticks"
"""Complaints of version 1, which does not mark them in any other way."""


def recognises(head: Sequence[Any]) -> bool:
    """Documents that name the format, or a list of messages that speak of its kind of code block."""
    return any(isinstance(value, dict) and _format_of(value) is not None for value in head) or _is_bare(head)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory per file (or per line or element, if there are several).

    An answer that the harness could not read never becomes part of a conversation of version 2: the next turn sees the
    complaint alone, as here. Each is a loss of code ``rejected_answer`` at the complaint. Version 1 does keep it; it is
    excluded as ``error_turn``.

    Raises:
        InputError: the file cannot be read.
    """
    name = path.name.partition(".traj")[0].removesuffix(".json").removesuffix(".jsonl")
    if _is_bare(head(path)):
        return _bare(path, name)

    def convert(value: Any, entry: Entry) -> Trajectory:
        row = as_object(value)
        if _format_of(row) not in _FORMATS:
            told = row.get("trajectory_format") or "missing"
            raise ValueError(f"trajectory_format is {told}; there are {', '.join(_FORMATS)}")
        return _trajectory(row, name if entry.number == 1 else f"{name}-{entry.number}")

    return convert_entries(path, convert)


def _bare(path: Path, name: str) -> Iterator[Trajectory | Refusal]:
    try:
        yield _trajectory({"messages": [entry.load() for entry in entries(path)]}, name)
    except ValueError as error:
        yield refusal(str(path), error)


def _trajectory(row: dict[str, Any], name: str) -> Trajectory:
    reading = _Reading()
    for index, item in enumerate(member(row, "messages", list)):
        try:
            reading.add(as_object(item))
        except ValueError as error:
            raise ValueError(f"messages[{index}]: {error}") from error
    if not any(message.role == "assistant" for message in reading.messages):
        raise ValueError("there is no assistant message, so there is no turn to learn from")
    if not any(message.tool_calls for message in reading.messages):
        reading.losses.append(Loss(code="text_mode"))
    elif not reading.tools:
        reading.losses.append(Loss(code="tools_not_logged"))
    info = optional(row, "info", dict) or {}
    config = optional(info, "config", dict) or {}
    known = {
        "instance_id": identifier(row, "instance_id") or identifier(info, "instance_id"),
        "model": (optional(config, "model", dict) or {}).get("model_name"),
        **{key: info.get(key) for key in ("exit_status", "submission", "mini_version", "model_stats")},
    }
    return Trajectory(
        id=name,
        task_id=known["instance_id"] or task_hash(reading.messages),
        messages=reading.messages,
        tools=reading.tools,
        excluded=reading.excluded,
        reward=_reward(row),
        metadata={"foreign": {key: value for key, value in known.items() if value is not None}},
        losses=tuple(reading.losses),
    )


def _reward(row: dict[str, Any]) -> float | None:
    """What `pivotrl bench` adds; mini-swe-agent itself does not know it."""
    value = row.get("reward")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


class _Reading:
    """A conversation as read so far."""

    def __init__(self) -> None:
        self.messages: tuple[Message, ...] = ()
        self.losses: list[Loss] = []
        self.excluded: dict[int, str] = {}
        self.tools: tuple[Tool, ...] = ()

    def add(self, item: dict[str, Any]) -> None:
        if item.get("role") == "exit":
            return  # the harness tells itself how it ended; the model never sees it
        if item.get("object") == "response":
            self._add_response(item)
            return
        made = conversation([item], "message", before=self.messages)
        place = len(self.messages)
        if len(made.messages) > place:  # a sealed thought makes none
            self._refuse_answer(item, made.messages[-1])
            self.losses += _hidden_thoughts(item, place)
        self.messages = made.messages
        self.losses += made.losses
        self.excluded |= made.excluded
        if item.get("role") == "assistant" and _finish_reason(item) == "length":
            self.excluded.setdefault(place, "truncated")

    def _add_response(self, item: dict[str, Any]) -> None:
        made = conversation(member(item, "output", list), "output", before=self.messages)
        place = len(self.messages)
        if [message.role for message in made.messages[place:]] != ["assistant"]:
            raise ValueError("a response that is not one answer of the assistant")
        self.messages = made.messages
        self.losses += made.losses
        self.excluded |= made.excluded
        if item.get("status") == "incomplete":
            self.excluded.setdefault(place, "truncated")
        self.tools = self.tools or response_tools(item.get("tools"))[0]

    def _refuse_answer(self, item: dict[str, Any], complaint: Message) -> None:
        """Exclude the answer that a complaint is about, or say that it is not in the conversation."""
        kind = (optional(item, "extra", dict) or {}).get("interrupt_type")
        if kind is None and (complaint.content or "").startswith(_OLD_FORMAT_ERROR):
            kind = "FormatError"
        if kind not in _REFUSALS or complaint.role != "user":
            return
        last = next((i for i in reversed(range(len(self.messages))) if self.messages[i].role != "tool"), None)
        is_about_last = kind == "UserRejection" or last == len(self.messages) - 1
        if last is not None and is_about_last and self.messages[last].role == "assistant":
            self.excluded[last] = "error_turn"
        else:
            self.losses.append(Loss(code="rejected_answer", message=len(self.messages)))


def _hidden_thoughts(item: dict[str, Any], place: int) -> Iterator[Loss]:
    """Thoughts that the provider sealed, in the blocks that LiteLLM keeps of Anthropic's answers."""
    blocks = optional(item, "thinking_blocks", list) or []
    if any(isinstance(block, dict) and block.get("type") == "redacted_thinking" for block in blocks):
        yield Loss(code="reasoning_encrypted", message=place)


def _finish_reason(item: dict[str, Any]) -> Any:
    """Why the model stopped, from the provider's answer as it was logged."""
    response: Any = (optional(item, "extra", dict) or {}).get("response")
    choices = response.get("choices") if isinstance(response, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first.get("finish_reason") if isinstance(first, dict) else None


def _format_of(row: dict[str, Any]) -> str | None:
    name = row.get("trajectory_format")
    return name if isinstance(name, str) and name.startswith("mini-swe-agent") else None


def _is_bare(head: Sequence[Any]) -> bool:
    rows = [value for value in head if isinstance(value, dict) and isinstance(value.get("role"), str)]
    texts = [value["content"] for value in rows if isinstance(value.get("content"), str)]
    return bool(rows) and len(texts) == len(head) and any(_FENCE in text for text in texts)
