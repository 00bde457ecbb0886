"""A trajectory of a row whose messages a format's own function converts, one after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pivotrl.reading.chat_messages import task_hash
from pivotrl.reading.row_facts import outcome, run_name, task_name
from pivotrl.records import Loss, Message, Tool, Trajectory

Converted = Callable[[Any, list[Loss]], list[Message]]
"""(item, receives what is left out) -> its messages; an answer of the assistant is the last of them."""


def conversation(
    row: Mapping[str, Any],
    name: str,
    items: Sequence[Any],
    convert: Converted,
    *,
    barred: Mapping[int, str],
    foreign: Mapping[str, Any],
    tools: tuple[Tool, ...] = (),
    system: str | None = None,
    losses: Sequence[Loss] = (),
    label: str = "messages",
) -> Trajectory:
    """The trajectory of the items; the row says its name, task and outcome.

    Args:
        name: of a row that has no name of its own.
        barred: items whose answer must not become a candidate, by index, with the reason.
        foreign: what else the row says, kept in the metadata.
        losses: those of the trajectory as a whole.
        label: how the format calls the list of items, for errors.

    Raises:
        ValueError: an item is malformed, or none is the assistant's.
    """
    messages = [Message(role="system", content=system)] if system else []
    found = list(losses)
    excluded: dict[int, str] = {}
    for index, item in enumerate(items):
        lost: list[Loss] = []
        try:
            made = convert(item, lost)
        except ValueError as error:
            raise ValueError(f"{label}[{index}]: {error}") from error
        found += [loss.model_copy(update={"message": len(messages) + (loss.message or 0)}) for loss in lost]
        messages += made
        if index in barred and made and made[-1].role == "assistant":
            excluded[len(messages) - 1] = barred[index]
    if not any(message.role == "assistant" for message in messages):
        raise ValueError("there is no assistant message, so there is no turn to learn from")
    return Trajectory(
        id=run_name(dict(row)) or name,
        task_id=task_name(dict(row)) or task_hash(messages),
        messages=tuple(messages),
        tools=tools,
        reward=outcome(row),
        excluded=excluded,
        metadata={"foreign": dict(foreign)} if foreign else {},
        losses=tuple(found),
    )
