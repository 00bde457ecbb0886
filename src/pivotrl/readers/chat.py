"""Chat logs in the style of OpenAI's chat completions, one trajectory a line.

A line is an object with ``messages``, and optionally ``tools``, ``id`` (or ``trajectory_id``), ``task_id``, ``reward``
(or ``score``); other keys are kept as ``metadata["foreign"]``. A file may also be one JSON array of such objects, or
a single one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pivotrl.json_lines import (
    as_object,
    audit,
    chat_messages,
    declared_tools,
    identifier,
    member,
    task_hash,
    trajectories,
)
from pivotrl.records import Trajectory

_KEYS = {"messages", "tools", "functions", "id", "trajectory_id", "task_id", "reward", "score"}


def read(path: Path, *, skip_bad: bool = False) -> Iterator[Trajectory]:
    """The trajectories of a chat log.

    Without an id a trajectory is called after its file and line; without a task id, runs that begin with the same
    system and user messages count as one task.

    Args:
        skip_bad: leave out entries that cannot be read, with a warning that counts them.

    Raises:
        InputError: the file or one of its lines cannot be read; it is named, with the reason.
    """

    def convert(value: Any, number: int) -> Trajectory:
        row = as_object(value)
        messages = chat_messages(member(row, "messages", list))
        tools = declared_tools(row.get("tools") or row.get("functions"))
        turn_indices, lost = audit(messages, tools)
        foreign = {key: value for key, value in row.items() if key not in _KEYS}
        return Trajectory(
            id=identifier(row, "id", "trajectory_id") or f"{path.stem}-{number}",
            task_id=identifier(row, "task_id") or task_hash(messages),
            messages=messages,
            tools=tools,
            reward=row.get("score") if row.get("reward") is None else row["reward"],
            turn_indices=turn_indices,
            metadata={"foreign": foreign} if foreign else {},
            lost=lost,
        )

    return trajectories(path, convert, skip_bad=skip_bad)
