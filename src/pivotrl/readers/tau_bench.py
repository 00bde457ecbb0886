"""Results of tau-bench: one JSON array of ``{task_id, reward, info, traj, trial}``.

The file does not hold the tools that the agent was given, so they are inferred from the calls that it made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pivotrl.json_lines import as_object, audit, chat_messages, identifier, member, trajectories
from pivotrl.matching import kind_of, parse_arguments
from pivotrl.records import Tool, Trajectory

_ENVIRONMENTS = ("airline", "retail")


def read(path: Path, *, environment: str | None = None, skip_bad: bool = False) -> Iterator[Trajectory]:
    """The episodes of a results file, each with its final reward.

    Args:
        environment: goes into the ids; by default the file's name decides (``airline``, ``retail``, else nothing).
        skip_bad: leave out entries that cannot be read, with a warning that counts them. An episode that ended in a
            crash of the benchmark is such an entry: it has no messages.

    Raises:
        InputError: the file or one of its entries cannot be read; it is named, with the reason.
    """
    name = environment or next((known for known in _ENVIRONMENTS if known in path.stem), None)

    def convert(value: Any, number: int) -> Trajectory:
        row = as_object(value)
        task, trial = identifier(row, "task_id"), identifier(row, "trial") or "0"
        if task is None:
            raise ValueError("task_id is missing")
        return Trajectory(
            id="-".join(filter(None, ("tau_bench", name, task, trial))),
            task_id=task,
            messages=_messages(row),
            reward=row.get("reward"),
            metadata={"foreign": {"trial": row.get("trial"), "info": row.get("info")}},
        )

    episodes = list(trajectories(path, convert, skip_bad=skip_bad))
    tools = _infer_tools(episodes)
    for episode in episodes:
        turn_indices, lost = audit(episode.messages, tools)
        if tools:
            lost = ("tools inferred from observed calls", *lost)
        yield episode.model_copy(update={"tools": tools, "turn_indices": turn_indices, "lost": lost})


def _messages(row: dict[str, Any]) -> Any:
    items = member(row, "traj", list)
    info = row.get("info")
    if not items and isinstance(info, dict) and info.get("error"):
        raise ValueError("the episode ended in an error of the benchmark and has no messages")
    return chat_messages(items)


def _infer_tools(episodes: Sequence[Trajectory]) -> tuple[Tool, ...]:
    """A schema for each tool that was called: the types its arguments had; required are those given every time."""
    observed: dict[str, list[dict[str, Any]]] = {}
    for call in (call for episode in episodes for message in episode.messages for call in message.tool_calls):
        with suppress(ValueError):  # arguments that are not JSON tell nothing; the audit reports them
            observed.setdefault(call.name, []).append(parse_arguments(call.arguments))
    return tuple(Tool(name=name, parameters=_infer_schema(calls)) for name, calls in observed.items())


def _infer_schema(calls: Sequence[dict[str, Any]]) -> dict[str, Any]:
    values: dict[str, list[Any]] = {}
    for arguments in calls:
        for key, value in arguments.items():
            values.setdefault(key, []).append(value)
    return {
        "type": "object",
        "properties": {key: {"type": _infer_type(found)} for key, found in values.items()},
        "required": [key for key, found in values.items() if len(found) == len(calls)],
    }


def _infer_type(values: Sequence[Any]) -> str | list[str]:
    types = {kind_of(value) for value in values}
    if types == {"number"} and all(isinstance(value, int) for value in values):
        return "integer"
    return types.pop() if len(types) == 1 else sorted(types)
