"""Trajectories of model calls that a log holds one by one, each with its request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pivotrl.reading.chat_messages import task_hash
from pivotrl.reading.formats.model_calls import Conversation, ModelCall, conversations
from pivotrl.reading.formats.request_calls import Called
from pivotrl.reading.row_facts import outcome, task_name
from pivotrl.reading.sources import refusal
from pivotrl.reading.text_calls import with_calls
from pivotrl.records import Loss, Refusal, Tool, Trajectory


def called_trajectories(
    calls: Sequence[ModelCall], name: str, facts: dict[str, Any] | None = None, *, is_named: bool = False
) -> Iterator[Trajectory]:
    """The conversations that the calls, which come in the order of time, are parts of.

    Args:
        name: of the first; the others are numbered.
        facts: what the log says about all of them, such as their reward.
        is_named: the name is an id of the log's own, and all conversations under it are of one task.
    """
    task = None
    for number, made in enumerate(conversations(calls), start=1):
        own = name if number == 1 else f"{name}-{number}"
        trajectory = _trajectory(made, own, facts or {}, task if is_named else None)
        task = task or trajectory.task_id
        yield trajectory


def _trajectory(made: Conversation, name: str, facts: dict[str, Any], task: str | None) -> Trajectory:
    called = [call.data for call in made.calls if isinstance(call.data, Called)]
    rows = [facts, *(one.row for one in reversed(called) if one.row)]
    tools: tuple[Tool, ...] = tuple({tool.name: tool for one in called for tool in one.tools}.values())
    messages = made.messages
    written = with_calls(messages, tools)
    losses: Iterable[Loss] = made.losses
    if written is not None:
        messages, tools, losses = written.messages, written.tools, [*made.losses, *written.losses]
    return Trajectory(
        id=name,
        task_id=_first(rows, task_name) or task or task_hash(messages),
        messages=messages,
        tools=tools,
        reward=_first(rows, outcome),
        excluded={**(written.excluded if written else {}), **made.excluded},
        losses=tuple(losses),
    )


def _first(rows: Sequence[dict[str, Any]], fact: Callable[[dict[str, Any]], Any]) -> Any:
    return next((found for row in rows if (found := fact(row)) is not None), None)


def collected(
    values: Iterable[tuple[str, Any]], convert: Callable[[Any], Iterable[ModelCall]], calls: list[ModelCall]
) -> Iterator[Refusal]:
    """Add the calls that each (place, value) holds; what cannot be read as a refusal."""
    for place, value in values:
        try:
            calls += convert(value)
        except ValueError as error:
            yield refusal(place, error)
