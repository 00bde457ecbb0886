"""Event logs of OpenHands V0: ``{id, source, action, args}`` and ``{id, source, observation, content, extras}``.

A file of events (a trajectory, which is one array), the directory of a session's event store (``0.json``, ``1.json``,
...), or an evaluation's rows, with the events as ``history``. What the model was shown is rebuilt from the responses
that the actions carry. Completion logs of the same run hold it word for word and are the better source.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.reading.chat_messages import declared_tools, task_hash
from pivotrl.reading.fields import as_object, each, identifier, member, optional
from pivotrl.reading.formats.openhands_texts import annotation_facts, evaluation_row, row_facts
from pivotrl.reading.formats.openhands_v0 import action_message, observation_message, response_of
from pivotrl.reading.formats.session_logs import (
    Entry,
    read_session,
    segments,
    stretches,
    whole_files,
    whole_lines,
    without_forgotten,
)
from pivotrl.reading.row_facts import known_reward
from pivotrl.reading.sources import Entry as Place
from pivotrl.reading.sources import any_of_first, convert_entries, head
from pivotrl.records import Loss, Message, Refusal, Tool, Trajectory

_FILE = re.compile(r"\d+\.json\Z")
_SILENT_ACTIONS = {"null", "change_agent_state", "pause", "resume", "stop", "start", "condensation_request"} | {
    "loop_recovery"
}
_SILENT_OBSERVATIONS = {"null", "agent_state_changed", "loop_detection", "success", "chat"}


def recognises(head: Sequence[Any]) -> bool:
    """Events, or rows of them."""
    return _are_events(head) or any(_are_events(row["history"][:20]) for row in map(evaluation_row, head) if row)


def claims(path: Path) -> bool:
    """The directory of a session's event store."""
    return path.is_dir() and any_of_first(_files(path), _is_event)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory for each session, and one more from each condensation on.

    Calls of one response are one turn; their arguments stay as the model wrote them, with the ``security_risk`` that
    OpenHands asks for (named in the metadata). A delegate's events are left out. Calls that the harness refused are not
    in these logs at all; their error messages are.

    Raises:
        InputError: the path cannot be read.
    """
    if path.is_dir():
        files = _files(path)
        if not files:
            raise InputError(f"{path} contains no event; give the directory with 0.json, 1.json and so on")
        name = path.parent.name if path.name == "events" else path.name
        yield from read_session(path, whole_files(files), lambda events: _trajectories(events, name, None, {}))
    elif _are_events(head(path)):
        yield from read_session(path, whole_lines(path), lambda events: _trajectories(events, path.stem, None, {}))
    else:
        yield from convert_entries(path, lambda value, place: _row(value, place, path))


def _is_event(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and {"id", "timestamp", "source", "message"} <= value.keys()
        and ((isinstance(value.get("action"), str) and "args" in value) or isinstance(value.get("observation"), str))
    )


def _are_events(values: Sequence[Any]) -> bool:
    """Most of the values; a few may be damaged."""
    return 2 * sum(map(_is_event, values)) > len(values)


def _files(directory: Path) -> list[Path]:
    return sorted((p for p in directory.iterdir() if _FILE.match(p.name)), key=lambda p: (len(p.stem), p.stem))


def _row(value: Any, place: Place, path: Path) -> list[Trajectory]:
    row = as_object(value)
    events = each("history", member(row, "history", list), as_object)
    task = identifier(row, "instance_id")
    made = _trajectories(events, task or f"{path.stem}-{place.number}", task, row_facts(row))
    reward = known_reward(row)
    return [part.model_copy(update={"reward": reward}) for part in made]


# --- from events to messages --------------------------------------------------------------------------------------


def _trajectories(events: Sequence[Entry], name: str, task: str | None, facts: dict[str, Any]) -> list[Trajectory]:
    own, num_delegated = _own(events)
    lost = [Loss(code="subagent", detail=f"{num_delegated} events of delegates")] if num_delegated else []
    foreign = {**facts, **_versions(own)}
    return stretches(
        _trajectory(view, num_given, name, task, foreign, lost)
        for view, num_given in segments([event for event in own if not _is_silent(event)], _condense)
        if any(_is_turn(event) for event in view[num_given:])
    )


def _own(events: Sequence[Entry]) -> tuple[list[Entry], int]:
    """(the events less those between a delegation and its result, how many those are)."""
    own: list[Entry] = []
    depth = 0
    for event in events:
        if event.get("observation") == "delegate":
            depth = max(0, depth - 1)
        if depth == 0:
            own.append(event)
        if event.get("action") == "delegate":
            depth += 1
    return own, len(events) - len(own)


def _is_silent(event: Entry) -> bool:
    """Whether the harness leaves the event out of the agent's history."""
    if (action := optional(event, "action", str)) is not None:
        return action in _SILENT_ACTIONS or (action == "finish" and event.get("source") == "user")
    return member(event, "observation", str) in _SILENT_OBSERVATIONS


def _condense(event: Entry, view: list[Entry]) -> list[Entry] | None:
    if event.get("action") != "condensation":
        return None
    arguments = member(event, "args", dict)
    forgotten = optional(arguments, "forgotten_event_ids", list)
    if forgotten is None:
        start, end = (
            member(arguments, "forgotten_events_start_id", int),
            member(arguments, "forgotten_events_end_id", int),
        )
        forgotten = [e["id"] for e in view if isinstance(e.get("id"), int) and start <= e["id"] <= end]
    text = optional(arguments, "summary", str)
    summary = None if text is None else {"observation": "condense", "content": text}
    kept = [e for e in view if not (e.get("observation") == "condense" and "id" not in e)] if summary else view
    return without_forgotten(
        kept, {i for i in forgotten if isinstance(i, int)}, summary, arguments.get("summary_offset")
    )


def _is_turn(event: Entry) -> bool:
    return event.get("source") == "agent" and event.get("action") not in (None, "system", "recall", "condensation")


def _trajectory(
    view: Sequence[Entry], num_given: int, name: str, task: str | None, facts: dict[str, Any], losses: Sequence[Loss]
) -> Trajectory:
    messages: list[Message] = []
    found = list(losses)
    tools: tuple[Tool, ...] = ()
    excluded: dict[int, str] = {}
    calls: set[str | None] = set()
    responses: set[str] = set()
    for number, event in enumerate(view):
        is_action = optional(event, "action", str) is not None
        response = response_of(event) if is_action else None
        if response is not None and response[0] in responses:
            continue  # the message of its first call holds all of them
        lost: list[Loss] = []
        message = action_message(event, lost) if is_action else observation_message(event, lost)
        if message is None or (message.role == "tool" and message.tool_call_id not in calls):
            continue  # the harness shows no result whose call was forgotten
        if message.role == "user" and messages and messages[-1].role == "user":
            message = message.model_copy(update={"content": f"\n\n{message.content}"})
        place = len(messages)
        messages.append(message)
        found += [loss.model_copy(update={"message": place}) for loss in lost]
        calls |= {call.id for call in message.tool_calls}
        if response is not None:
            responses.add(response[0])
        if message.role == "assistant":
            is_cut = response is not None and response[1].get("finish_reason") == "length"
            if number < num_given or is_cut:
                excluded[place] = "context_only" if number < num_given else "truncated"
        if event.get("action") == "system":
            tools = declared_tools((optional(event, "args", dict) or {}).get("tools"))
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


def _versions(events: Sequence[Entry]) -> dict[str, Any]:
    """Facts of the system message."""
    arguments = next((optional(e, "args", dict) or {} for e in events if e.get("action") == "system"), {})
    keys = ("openhands_version", "agent_class")
    return {key: arguments[key] for key in keys if isinstance(arguments.get(key), str)}
