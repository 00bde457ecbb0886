"""What ``claude -p --output-format stream-json`` prints, as lines of a session.

A stream has no tree: each line follows the one before it, and those of a sub-agent name the call that started it. The
prompt is given on the command line, so the stream does not hold it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.sources import entries
from pivotrl.records import Loss, Refusal, Trajectory

Entry = dict[str, Any]


def stream_lines(path: Path) -> tuple[list[Entry], Refusal | None]:
    """(the lines of the stream, the first that is damaged).

    Harnesses keep what the program prints, so there may be other lines in between: lines that are not JSON objects are
        skipped.

    Raises:
        InputError: the file as a whole cannot be read.
    """
    found: list[Entry] = []
    for entry in entries(path):
        try:
            value = entry.load()
        except ValueError as error:
            if "(column 1)" not in str(error):  # it begins like JSON
                return found, Refusal(place=entry.place, reason=f"{error}; the session is read up to here")
            continue
        if isinstance(value, dict):
            found.append(value)
    return found, None


def is_stream(line: Any) -> bool:
    """A line of the stream's kind; a session uses other names."""
    if not isinstance(line, dict) or "parentUuid" in line or not isinstance(line.get("session_id"), str):
        return False
    if line.get("type") in ("assistant", "user"):
        return isinstance(line.get("message"), dict)
    return line.get("type") == "system" and line.get("subtype") == "init"


def as_session(lines: Sequence[Entry]) -> list[Entry]:
    """The lines in the names and the tree of a session."""
    last: dict[Any, str] = {}
    made: list[Entry] = []
    for number, line in enumerate(lines):
        owner = line.get("parent_tool_use_id")
        owner = owner if isinstance(owner, str) else None
        name = line["uuid"] if isinstance(line.get("uuid"), str) else f"line-{number}"
        if any(name == other["uuid"] for other in made[-1:]):
            name = f"{name}-{number}"  # a line for each block of an answer may repeat the name
        made.append(
            {
                **{key: value for key, value in line.items() if key not in ("session_id", "parent_tool_use_id")},
                "uuid": name,
                "parentUuid": last.get(owner),
                "sessionId": line.get("session_id"),
                "isSidechain": owner is not None,
            }
        )
        if line.get("type") in ("assistant", "user"):
            last[owner] = name
    return made


def with_stream_losses(made: Trajectory) -> Trajectory:
    """The trajectory, and what its turns were decided on that the stream lacks."""
    first = made.messages[0]
    if first.role == "user":
        return made
    turns = [index for index, message in enumerate(made.messages) if message.role == "assistant"]
    return made.model_copy(
        update={
            "task_id": f"session-{made.id}",
            "excluded": dict.fromkeys(turns, "context_incomplete") | made.excluded,
            "losses": (Loss(code="input_not_logged", detail="the prompt"), *made.losses),
        }
    )
