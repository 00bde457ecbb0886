"""Logs that a session appends line by line: read up to the first damage, with condensed contexts rebuilt."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.reading.sources import entries, file_refusal, load_document, refusal
from pivotrl.records import Loss, Message, Refusal, Trajectory

Entry = dict[str, Any]


def whole_lines(path: Path) -> tuple[list[Entry], Refusal | None]:
    """(the objects of a log up to the first that cannot be read, that one).

    What follows a fault is left out: every later line was written with the missing one in view.

    Raises:
        InputError: the file as a whole cannot be read.
    """
    return _whole((entry.place, entry.load) for entry in entries(path))


def whole_files(files: Sequence[Path]) -> tuple[list[Entry], Refusal | None]:
    """The same for a session that is kept in a file for each event."""
    return _whole((str(file), functools.partial(load_document, file)) for file in files)


def _whole(parts: Iterable[tuple[str, Callable[[], Any]]]) -> tuple[list[Entry], Refusal | None]:
    found: list[Entry] = []
    for place, load in parts:
        try:
            value = load()
            if not isinstance(value, dict):
                raise ValueError("is not an object")
        except (InputError, ValueError) as error:
            told = file_refusal(Path(place), error)
            return found, told.model_copy(update={"reason": f"{told.reason}; the session is read up to here"})
        found.append(value)
    return found, None


def read_session(
    path: Path, session: tuple[list[Entry], Refusal | None], convert: Callable[[list[Entry]], Iterable[Trajectory]]
) -> Iterator[Trajectory | Refusal]:
    """What the whole part of a session is converted to, then the fault that ends it."""
    events, fault = session
    try:
        if events:
            yield from convert(events)
    except ValueError as error:
        yield refusal(str(path), error)
    if fault is not None:
        yield fault


def segments(
    events: Sequence[Entry], condense: Callable[[Entry, list[Entry]], list[Entry] | None]
) -> Iterator[tuple[list[Entry], int]]:
    """(events in view, how many of them are only context), once for each time the context was condensed and at the end.

    Args:
        condense: (event, view) -> the view after it; None when the event condenses nothing and only joins the view.
    """
    view: list[Entry] = []
    num_given = 0
    for event in events:
        condensed = condense(event, view)
        if condensed is None:
            view.append(event)
        else:
            yield view, num_given
            view, num_given = condensed, len(condensed)
    yield view, num_given


def without_forgotten(view: Sequence[Entry], forgotten: set[Any], summary: Entry | None, offset: Any) -> list[Entry]:
    """The view less the events of these ids, with the summary put at the offset, counted after they are gone."""
    kept = [event for event in view if not (isinstance(event.get("id"), str | int) and event["id"] in forgotten)]
    if summary is not None and isinstance(offset, int):
        kept.insert(max(0, min(offset, len(kept))), summary)
    return kept


def stretches(trajectories: Iterable[Trajectory]) -> list[Trajectory]:
    """Parts of one session, between which the context was condensed: numbered, and all of one task.

    Raises:
        ValueError: there is none.
    """
    made = list(trajectories)
    if not made:
        raise ValueError("there is nothing by the agent, so there is no turn to learn from")
    loss = Loss(code="compaction", detail="begins where the context was condensed")
    return made[:1] + [
        part.model_copy(
            update={"id": f"{part.id}-{number}", "task_id": made[0].task_id, "losses": (loss, *part.losses)}
        )
        for number, part in enumerate(made[1:], start=2)
    ]


def joined_users(messages: Sequence[Message], message: Message) -> Message | None:
    """Both as one, when a user's message follows a user's message; None when they stay apart."""
    if message.role != "user" or not messages or messages[-1].role != "user":
        return None
    return messages[-1].model_copy(update={"content": f"{messages[-1].content or ''}\n{message.content or ''}"})
