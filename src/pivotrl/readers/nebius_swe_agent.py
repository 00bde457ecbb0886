"""Nebius' published trajectories of SWE-agent: rows of ``trajectory``, a list of ``{role: system | user | ai, text}``.

Actions are text; ``mask`` says which turns are to be learned, ``target`` whether the patch solved the task.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import task_hash
from pivotrl.reading.fields import as_object, each, identifier, json_text, member, optional
from pivotrl.reading.row_facts import outcome, task_name
from pivotrl.reading.sources import Entry, convert_entries
from pivotrl.reading.turn_marks import marked_turns
from pivotrl.records import Loss, Message, Refusal, Role, Trajectory

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "ai": "assistant"}
_RUN = re.compile(r"(.+__.+-\d+)_\d+\Z")
"""The number of a run behind the id of its task."""
_KEPT = ("model_name", "exit_status", "generated_patch", "instance_id")


def recognises(head: Sequence[Any]) -> bool:
    """Rows with such a list."""
    return any(_is_row(value) for value in head)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory per row; runs of one task have its id followed by a number.

    Raises:
        InputError: the file cannot be read.
    """

    def convert(value: Any, entry: Entry) -> Trajectory:
        row = as_object(value)
        turns = each("trajectory", _turns(row), as_object)
        messages = tuple(each("trajectory", turns, _message))
        if not any(message.role == "assistant" for message in messages):
            raise ValueError("there is no assistant message, so there is no turn to learn from")
        task = task_name(row)
        run = _RUN.match(task) if task else None
        return Trajectory(
            id=identifier(row, "trajectory_id", "instance_id") or f"{path.stem}-{entry.number}",
            task_id=run[1] if run else task or task_hash(messages),
            messages=messages,
            reward=outcome(row),
            excluded=marked_turns(turns),
            metadata={"foreign": {key: row[key] for key in _KEPT if row.get(key)}},
            losses=(Loss(code="text_mode"),),
        )

    return convert_entries(path, convert)


def _turns(row: dict[str, Any]) -> list[Any]:
    value = row.get("trajectory")
    return (json_text("trajectory", value) or []) if isinstance(value, str) else member(row, "trajectory", list)


def _message(turn: dict[str, Any]) -> Message:
    name = member(turn, "role", str)
    if name not in _ROLES:
        raise ValueError(f"unknown role {name[:40]!r}; there are {', '.join(_ROLES)}")
    text = optional(turn, "text", str)
    return Message(role=_ROLES[name], content=optional(turn, "system_prompt", str) if text is None else text)


def _is_row(value: Any) -> bool:
    turns = value.get("trajectory") if isinstance(value, dict) else None
    if isinstance(turns, str) and turns.lstrip().startswith("[") and '"ai"' in turns:
        try:
            turns = json_text("trajectory", turns)
        except ValueError:
            return False
    return (
        isinstance(turns, list)
        and bool(turns)
        and all(isinstance(t, dict) and t.get("role") in ("system", "user", "ai") and "text" in t for t in turns)
    )
