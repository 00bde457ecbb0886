"""Results of tau-bench: one JSON array of ``{task_id, reward, info, traj, trial}``.

The file lacks the tools that the agent had.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import chat_messages
from pivotrl.reading.fields import as_object, identifier, member
from pivotrl.reading.sources import Entry, convert_entries
from pivotrl.records import Loss, Refusal, Trajectory

_ENVIRONMENTS = ("airline", "retail")


def recognises(head: Sequence[Any]) -> bool:
    """Episodes with a ``traj`` that is a list, of a task."""
    return any(isinstance(row, dict) and isinstance(row.get("traj"), list) and "task_id" in row for row in head)


def read(path: Path, *, environment: str | None = None) -> Iterator[Trajectory | Refusal]:
    """The episodes of a results file, each with its final reward.

    An episode that ended in a crash of the benchmark is refused: it has no messages.

    Args:
        environment: goes into the ids; by default the file's name decides (``airline``, ``retail``, else nothing).

    Raises:
        InputError: the file cannot be read.
    """
    name = environment or next((known for known in _ENVIRONMENTS if known in path.stem), None)

    def convert(value: Any, entry: Entry) -> Trajectory:
        row = as_object(value)
        task, trial = identifier(row, "task_id"), identifier(row, "trial") or "0"
        if task is None:
            raise ValueError("task_id is missing")
        return Trajectory(
            id="-".join(filter(None, ("tau_bench", name, task, trial))),
            task_id=task,
            messages=chat_messages(_messages(row)),
            reward=row.get("reward"),
            metadata={"foreign": {"trial": row.get("trial"), "info": row.get("info")}},
            losses=(Loss(code="tools_not_logged"),),
        )

    return convert_entries(path, convert)


def _messages(row: dict[str, Any]) -> list[Any]:
    items = member(row, "traj", list)
    info = row.get("info")
    if not items and isinstance(info, dict) and info.get("error"):
        raise ValueError("the episode ended in an error of the benchmark and has no messages")
    return items
