"""Pivot rows of NVIDIA NeMo Gym: the state before one decision, and the action that is expected there.

Items of the Responses API become messages (the assistant's reasoning, text and calls between two inputs are one
message, as when Gym renders them), and the expected action is appended as the last one, the only candidate turn.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from reprlib import repr as short
from typing import Any

from pivotrl.json_lines import (
    as_object,
    audit,
    chat_message,
    declared_tools,
    each,
    identifier,
    member,
    optional,
    task_hash,
    text_of,
    tool_call,
    trajectories,
)
from pivotrl.matching import parse_json
from pivotrl.records import Message, Trajectory

_READ = {"responses_create_params", "expected_action", "expected_answers", "expected_answer"}
_SAMPLED = {"response", "judge_evaluations", "model_output", "parsed_output"}
"""What a rollout file adds: another policy's sample and its grading, which say nothing about the expected action."""


def read(path: Path, *, skip_bad: bool = False) -> Iterator[Trajectory]:
    """One trajectory a row, without a reward: a rollout's reward is that of its sample, not of the expected action.

    Other keys of the row (``pass_rate``, ``uuid``, ...) are kept as ``metadata["foreign"]``. Pass rates there belong to
    the policy that was profiled; they do not carry over to another.

    Args:
        skip_bad: leave out rows that cannot be read, with a warning that counts them.

    Raises:
        InputError: the file or one of its rows cannot be read; it is named, with the reason.
    """

    def convert(value: Any, number: int) -> Trajectory:
        row = as_object(value)
        parameters = member(row, "responses_create_params", dict)
        context, lost = _context(parameters)
        messages = (*context, _expected_message(row))
        last = len(context)
        tools = declared_tools(parameters.get("tools"))
        sound, missing = audit(messages, tools)
        return Trajectory(
            id=f"{path.stem}-{number}",
            task_id=_source(row) or task_hash(messages, ("user",)),
            messages=messages,
            tools=tools,
            turn_indices=(last,) if sound is None or last in sound else (),
            metadata={"foreign": {key: row[key] for key in row if key not in _READ | _SAMPLED}},
            lost=(*missing, *lost),
        )

    return trajectories(path, convert, skip_bad=skip_bad)


def _source(row: dict[str, Any]) -> str | None:
    """The trajectory that the row was cut from: rows of one must stay on one side of a split."""
    metadata = optional(row, "metadata", dict) or {}
    return identifier(row, "trajectory_id") or identifier(metadata, "source_trajectory_uid")


def _context(parameters: dict[str, Any]) -> tuple[list[Message], list[str]]:
    """(messages before the expected action, what was lost)."""
    given = parameters.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else member(parameters, "input", list)
    if instructions := optional(parameters, "instructions", str):
        items = [{"role": "system", "content": instructions}, *items]
    fragments = each("input", items, _fragment)
    hidden = sum(1 for fragment in fragments if fragment.role == "assistant" and _is_blank(fragment))
    messages = list(
        _merge(fragment for fragment in fragments if fragment.role != "assistant" or not _is_blank(fragment))
    )
    lost = [f"{hidden} assistant items without text, such as encrypted reasoning"] if hidden else []
    if messages and messages[-1].role == "assistant":
        lost.append("the input ends with an assistant message, next to the expected action")
    return messages, lost


def _fragment(item: Any) -> Message:
    """One Responses item as a message, or as a part of the assistant's message."""
    row = as_object(item)
    kind = row.get("type") or "message"
    if kind == "message":
        return chat_message(row)
    if kind == "reasoning":
        texts = [
            text_of(row.get("summary"), ("summary_text",)),
            text_of(row.get("content"), ("reasoning_text", "text")),
        ]
        return Message(role="assistant", reasoning=_joined(texts))
    if kind == "function_call":
        return Message(role="assistant", tool_calls=(tool_call(row),))
    if kind == "function_call_output":
        return Message(role="tool", content=text_of(row.get("output")), tool_call_id=member(row, "call_id", str))
    raise ValueError(
        f"unknown item of type {short(kind)}; there are message, reasoning, function_call, function_call_output"
    )


def _is_blank(message: Message) -> bool:
    return not (message.content or message.reasoning or message.tool_calls)


def _merge(fragments: Iterable[Message]) -> Iterator[Message]:
    """Neighbouring parts of the assistant's make one message, and so do leading system messages."""
    for position, (role, run) in enumerate(itertools.groupby(fragments, key=lambda fragment: fragment.role)):
        parts = list(run)
        if role == "assistant":
            yield Message(
                role="assistant",
                content=_joined(part.content for part in parts),
                reasoning=_joined(part.reasoning for part in parts),
                tool_calls=tuple(call for part in parts for call in part.tool_calls),
            )
        elif role == "system" and position == 0:
            yield Message(role="system", content=_joined((part.content for part in parts), "\n\n"))
        else:
            yield from parts


def _joined(texts: Iterable[str | None], separator: str = "\n") -> str | None:
    return separator.join(text for text in texts if text) or None


def _expected_message(row: dict[str, Any]) -> Message:
    """The expected action: ``expected_action``, xlam's ``expected_answers``, or ``expected_answer``.

    An ``expected_answer`` is a function call when it reads as one (swe_pivot), else the text to write (terminus).
    """
    if action := optional(row, "expected_action", dict):
        return _action_message(action)
    if calls := optional(row, "expected_answers", list):
        return _calls_message("expected_answers", calls)
    if answer := optional(row, "expected_answer", str):
        with suppress(ValueError):  # an answer that is no JSON is a text
            value = as_object(parse_json(answer))
            if value.get("type") == "function_call":
                action = value
        return _action_message(action) if action else Message(role="assistant", content=answer)
    raise ValueError("there is no expected_action, expected_answers or expected_answer, so it is no pivot row")


def _action_message(action: dict[str, Any]) -> Message:
    kind = action.get("type")
    if kind == "message":
        return Message(role="assistant", content=text_of(action.get("content")))
    if kind == "function_call":
        return _calls_message("expected_action", [action])
    if kind == "function_call_batch":
        return _calls_message("calls", member(action, "calls", list))
    raise ValueError(
        f"expected_action of unknown type {short(kind)}; there are message, function_call, function_call_batch"
    )


def _calls_message(name: str, calls: Sequence[Any]) -> Message:
    return Message(role="assistant", tool_calls=tuple(each(name, calls, tool_call)))
