"""Labels from the pivot browser: turns to drop, further right actions, notes.

The page exports a file of the format ``pivotrl-labels-1``. A selection keeps the labels that it was made with as
records of its own, and that file can be read again.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from pivotrl.protocols import InputError, Notice
from pivotrl.reading.alternatives import action_key
from pivotrl.records import Label, Record, Trajectory
from pivotrl.records.strict_json import parse_json
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import LABELS
from pivotrl.storage.record_files import read_records, validation_message

FORMAT = "pivotrl-labels-1"
_REMEDY = "Export the labels again from the page of `pivotrl view`, or mend the file"
_NUM_SHOWN = 3


class _Header(Record):
    format: Literal["pivotrl-labels-1"]
    run: str
    trajectories_sha256: str
    labels: tuple[dict[str, Any], ...]


def read_labels(path: Path, files: RunFiles) -> list[Label]:
    """The labels of a file, by turn id; those that say nothing are left out.

    Of a label at a held-out turn only the note is kept, and a notice says so: a policy is compared before and after
    training, so what counts as right there must not change in between. Another notice names tools that the log does
    not declare.

    Raises:
        InputError: the file cannot be read, belongs to other trajectories, or has a label that fits no turn of them.
    """
    given = _given(path, files)
    trained = {trajectory.id: trajectory for trajectory in files.logged()}
    held_out = {trajectory.id: trajectory for trajectory in files.logged_heldout()}
    found: dict[str, Label] = {}
    undeclared: list[str] = []
    notes_only: list[str] = []
    for place, label in given:
        if label.turn_id in found:
            raise _fault(place, "the turn has two labels; keep one")
        name, _, index = label.turn_id.rpartition("#")
        trajectory = trained.get(name) or held_out.get(name)
        _require_turn(place, trajectory, index)
        for which, action in enumerate(label.accept, start=1):
            if action_key(action) is None:
                raise _fault(place, f"accepted action {which} is empty, or its arguments are not a JSON object")
        assert trajectory is not None
        undeclared += _undeclared(trajectory, label)
        if name in held_out and (label.drop or label.accept):
            notes_only.append(label.turn_id)
            label = Label(turn_id=label.turn_id, note=label.note)
        found[label.turn_id] = label
    if undeclared:
        _warn(f"{path} accepts calls of tools that the log does not declare: {_listed(undeclared)}")
    if notes_only:
        _warn(f"{path}: of labels at held-out turns only the notes are kept, so that measurements stay comparable: "
              f"{_listed(notes_only)}")  # fmt: skip
    return sorted(
        (label for label in found.values() if label.drop or label.accept or label.note), key=lambda label: label.turn_id
    )


def _given(path: Path, files: RunFiles) -> list[tuple[str, Label]]:
    """(place, label) in the order of the file."""
    if path.name.endswith(LABELS):
        home = files.directory.resolve()
        if path.resolve().parent not in (home, home / "selections"):  # one in replaced/ may be of other trajectories
            raise InputError(
                f"--labels {path} belongs to a selection of another run, or to one that was replaced; give the file "
                "that the page exported"
            )
        try:
            return [(f"{path}, {label.turn_id}", label) for label in read_records(path, Label)]
        except ValueError as error:
            raise InputError(f"{error}. Give the file that the page exported") from None
    try:
        content = parse_json(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))  # some editors write a byte order mark
    except OSError as error:
        raise InputError(f"cannot read --labels {path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"--labels {path} is not JSON: {error}. {_REMEDY}") from None
    try:
        header = _Header.model_validate(content)
    except ValidationError as error:
        raise InputError(
            f"--labels {path} is no file of labels ({FORMAT}): {validation_message(error)}. {_REMEDY}"
        ) from None
    ours = files.sha256("trajectories.jsonl")
    if header.trajectories_sha256 != ours:
        raise InputError(
            f"--labels {path} was made for other trajectories (run {header.run!r}, "
            f"{header.trajectories_sha256[:12] or 'without a hash'}) than those of {files.directory} ({ours[:12]}). "
            "Give the labels of this run, or select in the run that they were made for"
        )
    found = []
    for number, item in enumerate(header.labels, start=1):
        place = f"{path}, label {number} ({item.get('turn_id')})"
        try:
            label = Label.model_validate(item)
        except ValidationError as error:
            raise _fault(place, validation_message(error)) from None
        found.append((place, label))
    return found


def _require_turn(place: str, trajectory: Trajectory | None, index: str) -> None:
    is_number = index.isascii() and index.isdecimal() and len(index) < 9 and str(int(index)) == index
    if trajectory is None or not is_number or int(index) >= len(trajectory.messages):
        raise _fault(place, "the run has no such turn")
    role = trajectory.messages[int(index)].role
    if role != "assistant":
        raise _fault(place, f"message {index} is of the role {role}; only a turn of the assistant can have a label")


def _undeclared(trajectory: Trajectory, label: Label) -> list[str]:
    known = {tool.name for tool in trajectory.tools}
    called = {call.name for action in label.accept for call in action.tool_calls}
    return [f"{name} at {label.turn_id}" for name in sorted(called - known)] if known else []


def _fault(place: str, fault: str) -> InputError:
    return InputError(f"{place}: {fault}. {_REMEDY}")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NUM_SHOWN
    return ", ".join(names[:_NUM_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _warn(told: str) -> None:
    warnings.warn(told, Notice, stacklevel=4)
