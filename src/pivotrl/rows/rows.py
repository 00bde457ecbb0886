"""Profiled turns for another training stack, and the parts that rows of all stacks share.

Facts of ours bear names that start with ``pivotrl_``: a pass rate or a trajectory id of somebody else, which other
files carry under shorter names, is never mistaken for them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pivotrl.parsing import action_text, write_action
from pivotrl.protocols import Turn
from pivotrl.records import Message, SkippedTurn, Trajectory
from pivotrl.records.strict_json import parse_arguments
from pivotrl.rows.settings import Settings
from pivotrl.storage.record_files import write_file
from pivotrl.text.tool_call_syntax import function_tool

Row = dict[str, Any]

COLUMNS = {
    "pivotrl_turn_id": "trajectory id # index of the assistant message in the log",
    "pivotrl_trajectory_id": "the log the turn was cut from",
    "pivotrl_task_id": "all rows of a task are on one side of the split",
    "pivotrl_reward_mean": "mean reward of the profiled policy at the turn, over the samples with a verdict",
    "pivotrl_reward_variance": "population variance of those rewards",
    "pivotrl_num_scored": "samples with a verdict",
    "pivotrl_num_samples": "K, samples drawn",
    "pivotrl_policy_sha256": "identity of the profiled policy; the profile does not apply to others",
    "pivotrl_expected_action": "the demonstrated action, as JSON text",
    "pivotrl_turn": "the whole turn as JSON text, for the reward function",
}
"""Columns that rows may have besides those of the stack."""


class Unfit(ValueError):
    """A turn cannot be written in a format; the message is the reason, a stable code."""


@dataclass(frozen=True)
class ProfiledTurn:
    """A turn with its profile."""

    turn: Turn
    facts: Mapping[str, str | int | float]
    """Provenance and profile, by the names in ``COLUMNS``; unknown values are left out."""


@dataclass(frozen=True)
class Pivots:
    """What is exported."""

    splits: Mapping[str, Sequence[ProfiledTurn]]
    """``train`` and, unless it is empty, ``validation``; no task is in both."""
    verifier: str
    """The verifier that profiled the turns, as a text that names it."""
    about: str
    """For people: where the turns come from, as lines of Markdown."""
    settings: Settings = field(default_factory=Settings)
    """How the run trained, for a configuration."""


def convert(pivots: Pivots, make_row: Callable[[ProfiledTurn], Row]) -> tuple[dict[str, list[Row]], list[SkippedTurn]]:
    """(rows by split, turns that do not fit with the reason). Splits that come out empty are left out.

    Args:
        make_row: raises :class:`Unfit`.
    """
    rows: dict[str, list[Row]] = {}
    skipped: list[SkippedTurn] = []
    for split, turns in pivots.splits.items():
        for profiled in turns:
            try:
                rows.setdefault(split, []).append(make_row(profiled))
            except Unfit as error:
                skipped.append(SkippedTurn(turn_id=profiled.turn.id, reason=str(error)))
    return {split: made for split, made in rows.items() if made}, skipped


def json_text(value: Any) -> str:
    """Compact JSON that keeps every letter readable.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def write_json_lines(path: Path, rows: Iterable[Row]) -> None:
    write_file(path, "".join(f"{json_text(row)}\n" for row in rows))


# --- parts of rows ------------------------------------------------------------------------------------------------


def tools_text(turn: Turn) -> str:
    """The turn's tools as one JSON text: schemas differ in type from tool to tool, which no table column can."""
    return json_text([function_tool(tool) for tool in turn.trajectory.tools])


def expected_action(turn: Turn) -> Row:
    """The demonstrated action as an OpenAI-style assistant message; arguments stay the text that the log has."""
    action = turn.expected_action
    message: Row = {"role": "assistant", "content": action.content or ""}
    if action.tool_calls:
        message["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in action.tool_calls
        ]
    return message


def turn_text(turn: Turn) -> str:
    """The turn as JSON text: a trajectory of what the agent saw and, as its last message, what it did, with the other
    actions that are right there.

    :mod:`pivotrl.rows.rewards` makes a turn of it again, on which any verifier can judge.
    """
    trajectory, context = turn.trajectory, turn.context
    others = turn.accepted_actions[1:]
    seen = Trajectory(
        id=trajectory.id,
        task_id=trajectory.task_id,
        messages=(*context, trajectory.messages[turn.index]),
        tools=trajectory.tools,
        alternatives={len(context): others} if others else {},
        metadata=trajectory.metadata,
    )
    return seen.model_dump_json(exclude_defaults=True)


def facts(profiled: ProfiledTurn) -> Row:
    """Our columns: provenance, profile, expected action, and the whole turn."""
    return {
        **profiled.facts,
        "pivotrl_expected_action": json_text(expected_action(profiled.turn)),
        "pivotrl_turn": turn_text(profiled.turn),
    }


def arguments_object(arguments: str) -> Row:
    """Raises:
    Unfit: the arguments are not a JSON object.
    """
    try:
        return parse_arguments(arguments)
    except ValueError as error:
        raise Unfit("arguments_not_an_object") from error


# --- prompts as plain text ----------------------------------------------------------------------------------------

_TOOLS = (
    "You may call tools. They are listed as JSON between <tools> and </tools>:\n<tools>\n{tools}\n</tools>\n"
    "To call one, write its name and arguments as JSON between tool_call tags:\n"
    '<tool_call>\n{{"name": "...", "arguments": {{...}}}}\n</tool_call>'
)


def text_prompt(turn: Turn) -> list[dict[str, str]]:
    """The context as messages of text alone: tools stand in the system message, calls and results in tags.

    For stacks that know no tools of single rows. The same words as the built-in ChatML rendering.

    Raises:
        Unfit: there is no context.
    """
    texts: list[tuple[str, str]] = []
    if turn.trajectory.tools:
        listed = "\n".join(json.dumps(function_tool(tool), ensure_ascii=False) for tool in turn.trajectory.tools)
        texts.append(("system", _TOOLS.format(tools=listed)))
    for message in _context(turn):
        if message.role == "system" and texts and texts[-1][0] == "system":
            texts[-1] = ("system", f"{message.content or ''}\n\n{texts[-1][1]}")
        elif message.role == "tool":
            texts.append(("user", f"<tool_response>\n{message.content or ''}\n</tool_response>"))
        else:
            texts.append((message.role, action_text(message)))
    return [{"role": role, "content": text} for role, text in texts]


def text_completion(turn: Turn) -> list[dict[str, str]]:
    """The expected action as one message of text alone, which reads back as that action.

    Raises:
        Unfit: arguments are not a JSON object, there is no action, or its text would read as another one.
    """
    require_action(turn)
    try:
        return [{"role": "assistant", "content": write_action(turn.expected_action)}]
    except ValueError as error:
        raise Unfit("action_not_writable") from error


def require_action(turn: Turn) -> None:
    """Raises:
    Unfit: the demonstration did nothing, or called a tool with arguments that are not a JSON object.
    """
    action = turn.expected_action
    if action.is_empty:
        raise Unfit("no_expected_action")
    for call in action.tool_calls:
        arguments_object(call.arguments)


def _context(turn: Turn) -> tuple[Message, ...]:
    if not turn.context:
        raise Unfit("no_context")
    return turn.context
