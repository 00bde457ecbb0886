"""Conversations of the OpenHands SDK (V1): events with a ``kind``.

A file of events, one a line or one array; the directory in which the SDK keeps a conversation, with
``base_state.json`` and a file for each event under ``events``; or an evaluation's rows, with the events as ``history``.
What the model was shown is rebuilt as the SDK does it, condensations included. The tools' parameters are not logged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.reading.chat_messages import task_hash
from pivotrl.reading.fields import as_object, each, identifier, member, optional
from pivotrl.reading.formats.openhands_texts import annotation_facts, evaluation_row, row_facts
from pivotrl.reading.formats.openhands_v1 import event_message, event_tools
from pivotrl.reading.formats.session_logs import (
    Entry,
    joined_users,
    read_session,
    segments,
    stretches,
    whole_files,
    whole_lines,
    without_forgotten,
)
from pivotrl.reading.row_facts import known_reward
from pivotrl.reading.sources import Entry as Place
from pivotrl.reading.sources import convert_entries, head, load_document
from pivotrl.records import Loss, Message, Refusal, Tool, Trajectory

_FILE = re.compile(r"event-(\d{5,})-[0-9a-fA-F-]{8,}\.json\Z")
_SHOWN = {"SystemPromptEvent", "MessageEvent", "ActionEvent", "ObservationEvent", "AgentErrorEvent"} | {
    "UserRejectObservation",
    "CondensationSummaryEvent",
}
_UNSEEN = {"ConversationStateUpdateEvent", "PauseEvent", "InterruptEvent", "TokenEvent", "StreamingDeltaEvent"} | {
    "SecurityAnalysisEvent",
    "HookExecutionEvent",
    "LLMCompletionLogEvent",
    "CondensationRequest",
    "ConversationErrorEvent",
}
"""Events that the model does not see."""
_ROOT = "__root__"


def recognises(head: Sequence[Any]) -> bool:
    """Events, or rows of them."""
    return _are_events(head) or any(
        _are_events(row["history"][:20]) for value in head if (row := evaluation_row(value))
    )


def claims(path: Path) -> bool:
    """A directory in which the SDK keeps a conversation."""
    try:
        return path.is_dir() and (path / "base_state.json").is_file() and bool(_files(path))
    except OSError:
        return False


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory for each conversation, and one more from each condensation on.

    Calls of one response are one turn; their arguments stay as the model wrote them, with the ``security_risk`` and
    ``summary`` that the SDK asks for (named in the metadata). Of a conversation that branches, the last branch is read.

    Raises:
        InputError: the path cannot be read.
    """
    if path.is_dir():
        yield from _directory(path)
    elif _are_events(head(path)):
        yield from read_session(
            path, whole_lines(path), lambda events: _trajectories(events, path.stem, None, {}, None)
        )
    else:
        yield from convert_entries(path, lambda value, place: _row(value, place, path))


def _are_events(values: Sequence[Any]) -> bool:
    """Most of the values are events (a few may be damaged), and some are of kinds that the model is shown."""
    keys = {"kind", "id", "timestamp", "source"}
    kinds = [value["kind"] for value in values if isinstance(value, dict) and keys <= value.keys()]
    return 2 * len(kinds) > len(values) and any(kind in _SHOWN for kind in kinds if isinstance(kind, str))


def _files(directory: Path) -> list[Path]:
    found = [(match, path) for path in (directory / "events").iterdir() if (match := _FILE.match(path.name))]
    return [path for _, path in sorted(found, key=lambda item: int(item[0][1]))]


def _directory(path: Path) -> Iterator[Trajectory | Refusal]:
    if not claims(path):
        raise InputError(f"{path} is not a conversation of the SDK; give the directory that holds base_state.json")
    events, fault = whole_files(_files(path))
    leaf = None
    with suppress(InputError, ValueError):  # the state only says which branch is meant; without it, the last one is
        state = as_object(load_document(path / "base_state.json"))
        leaf = identifier(state, "leaf_event_id") if fault is None else None
    return read_session(path, (events, fault), lambda events: _trajectories(events, path.name, None, {}, leaf))


def _row(value: Any, place: Place, path: Path) -> list[Trajectory]:
    row = as_object(value)
    events = each("history", member(row, "history", list), as_object)
    task = identifier(row, "instance_id")
    made = _trajectories(events, task or f"{path.stem}-{place.number}", task, row_facts(row), None)
    reward = known_reward(row)
    return [part.model_copy(update={"reward": reward}) for part in made]


# --- from events to messages --------------------------------------------------------------------------------------


def _trajectories(
    events: Sequence[Entry], name: str, task: str | None, facts: dict[str, Any], leaf: str | None
) -> list[Trajectory]:
    each("event", events, lambda event: member(event, "kind", str))
    branch = _branch(events, leaf)
    lost = [Loss(code="branch", detail=f"{len(events) - len(branch)} events")] if len(branch) < len(events) else []
    unknown = [
        str(event.get("kind")) for event in branch if event.get("kind") not in _SHOWN | _UNSEEN | {"Condensation"}
    ]
    lost += [Loss(code="unknown_item", detail=kind) for kind in dict.fromkeys(unknown)]
    shown = [event for event in branch if event["kind"] in _SHOWN | {"Condensation"}]
    return stretches(
        _trajectory(view, num_given, name, task, facts, lost)
        for view, num_given in segments(shown, _condense)
        if any(_is_turn(event) for event in view[num_given:])
    )


def _branch(events: Sequence[Entry], leaf: str | None) -> list[Entry]:
    """The events on the way to the leaf, by default the last one; an event without a parent follows the one before."""
    places = {event.get("id"): index for index, event in enumerate(events) if isinstance(event.get("id"), str)}
    place: int | None = places.get(leaf, len(events) - 1)
    way: list[Entry] = []
    while place is not None and place >= 0 and len(way) < len(events):
        way.append(events[place])
        parent = optional(events[place], "parent_id", str)
        if parent == _ROOT:
            break
        if parent is not None and parent not in places:
            raise ValueError(f"the parent {parent} of an event is not in the log")
        place = place - 1 if parent is None else places[parent]
    return way[::-1]


def _condense(event: Entry, view: list[Entry]) -> list[Entry] | None:
    if event["kind"] != "Condensation":
        return None
    text = optional(event, "summary", str)
    summary = (
        {"kind": "CondensationSummaryEvent", "id": f"{event.get('id')}-summary", "summary": text} if text else None
    )
    forgotten = {item for item in member(event, "forgotten_event_ids", list) if isinstance(item, str)}
    return without_forgotten(view, forgotten, summary if text else None, event.get("summary_offset"))


def _is_turn(event: Entry) -> bool:
    return event["kind"] == "ActionEvent" or (event["kind"] == "MessageEvent" and event.get("source") == "agent")


def _trajectory(
    view: Sequence[Entry], num_given: int, name: str, task: str | None, facts: dict[str, Any], losses: Sequence[Loss]
) -> Trajectory:
    messages: list[Message] = []
    found = list(losses)
    tools: tuple[Tool, ...] = ()
    excluded: dict[int, str] = {}
    turns: dict[str, int] = {}
    for number, event in enumerate(view):
        lost: list[Loss] = []
        message = event_message(event, lost)
        response = optional(event, "llm_response_id", str) if event["kind"] == "ActionEvent" else None
        if response is not None and response in turns:
            place = turns[response]
            calls = (*messages[place].tool_calls, *message.tool_calls)
            messages[place] = messages[place].model_copy(update={"tool_calls": calls})
        elif (joined := joined_users(messages, message)) is not None:
            messages[-1] = joined
            place = len(messages) - 1
        else:
            place = len(messages)
            messages.append(message)
            turns |= {response: place} if response is not None else {}
        found += [loss.model_copy(update={"message": place}) for loss in lost]
        if message.role == "assistant":
            if number < num_given:
                excluded[place] = "context_only"
            elif event["kind"] == "ActionEvent" and event.get("action") is None:
                excluded[place] = "error_turn"  # the SDK found no tool, or arguments that do not fit it
        if event["kind"] == "SystemPromptEvent":
            tools, unlogged = event_tools(event)
            found += unlogged
    foreign = {**facts, **annotation_facts(messages)}
    return Trajectory(
        id=name,
        task_id=task or task_hash(messages),
        messages=tuple(messages),
        tools=tools,
        excluded=excluded,
        metadata={"foreign": foreign} if foreign else {},
        losses=tuple(found),
    )
