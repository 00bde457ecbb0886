"""``--overwrite`` deletes nothing: it moves a stage, and what was made from it, to ``replaced/`` and reports the cost.

A move is a list on disk and one rename per file or folder. If the process is killed in the middle, the next command
in the directory finishes the move before it does anything else.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pivotrl.protocols import InputError, Notice
from pivotrl.records import Manifest
from pivotrl.records.strict_json import parse_json
from pivotrl.runs import lock
from pivotrl.runs.costs import describe_cost
from pivotrl.runs.layout import (
    BENCH,
    PILOT,
    REPLACED,
    evaluation_stage,
    known_stages,
    outputs,
    selection_stage,
    training_stage,
)
from pivotrl.runs.manifest import SUFFIX, find_manifest
from pivotrl.storage.folders import sync_directory
from pivotrl.storage.record_files import timestamp, write_file

_LIST = ".moving.json"
_ORDER = ("plan", BENCH, "evaluations", "trainings", "train", "selections", "select", "profile", "read")
_BESIDE = {"read": ("check.json", ".redaction_key")}
_REPORT = ("report.html", "report.json")


def move_aside(directory: Path, stage: str) -> Path | None:
    """Move the files of a stage and of everything made from it, what it was made from stays. Says what went, what it
    had cost and where it lies, as a :class:`pivotrl.protocols.Notice`.

    Returns:
        the folder where they lie; None if there was nothing to move.

    Raises:
        OSError: the disk refused; nothing is lost, and the next command ends the move.
    """
    return _move(directory, sorted([stage, *dependents(directory, stage)], key=_rank))


def move_results_aside(directory: Path, training: str) -> None:
    """As :func:`move_aside`, of the evaluations of a training's end alone: the training will go on. Evaluations of a
    checkpoint stay."""
    made = dependents(directory, training)
    _move(directory, [stage for stage in made if _measures_the_end(find_manifest(directory, stage))])


def _move(directory: Path, stages: Sequence[str]) -> Path | None:
    costs = [describe_cost(directory, name) for name in stages if _files(directory, name)]
    names = [path for name in stages for path in _files(directory, name)]
    if any(name.startswith(("train", "read")) for name in stages):
        names += [name for name in _REPORT if (directory / name).exists()]
    if not names:
        return None
    folder = _new_folder(directory / REPLACED)
    write_file(folder / _LIST, json.dumps(names) + "\n")
    _finish(directory, folder)
    warnings.warn(
        f"moved to {folder}: {', '.join(costs) or ', '.join(names)}. Move the files back to undo this; delete the "
        "folder when you no longer need it",
        Notice,
        stacklevel=2,
    )
    return folder


def finish_moves(directory: Path) -> None:
    """Finish an interrupted :func:`move_aside`. The caller must hold the lock."""
    for path in sorted((directory / REPLACED).glob(f"*/{_LIST}")):
        _finish(directory, path.parent)


def dependents(directory: Path, stage: str) -> list[str]:
    """The stages that were made from a stage, directly or not."""
    made_from = {name: _made_from(directory, name) for name in known_stages(directory)}
    found, size = {stage}, 0
    while len(found) > size:
        size = len(found)
        found |= {name for name, source in made_from.items() if source in found}
    return sorted(found - {stage}, key=_rank)


def _made_from(directory: Path, stage: str) -> str | None:
    """What a stage was made from; of one whose manifest is damaged, what it is made from without a word."""
    try:
        manifest = find_manifest(directory, stage)
    except InputError:
        manifest = None
    options = manifest.options if manifest else {}
    kind, _, _ = stage.rpartition("/")
    if stage == "read":
        return None
    if kind.startswith(f"{BENCH}/"):
        return training_stage(options.get("training")) if _measures_the_end(manifest) else None
    if stage == "train" or kind == "trainings":
        return selection_stage(options.get("selection"))
    if kind == "evaluations":
        return training_stage(options.get("training")) if _needs_training(stage, manifest) else "read"
    return "read" if stage in ("profile", PILOT) else "profile"


def _needs_training(stage: str, manifest: Manifest | None) -> bool:
    if manifest is None:
        return stage != evaluation_stage("before")
    return _measures_the_end(manifest) or str(manifest.options.get("checkpoint") or "").isdecimal()


def _measures_the_end(manifest: Manifest | None) -> bool:
    return manifest is not None and any(name.endswith("/metrics.jsonl") for name in manifest.inputs)


def _files(directory: Path, stage: str) -> list[str]:
    """Files and folders of a stage that exist. Its manifest is the last of them: as long as it stands, what is missing
    is told as missing."""
    kind, _, _ = stage.rpartition("/")
    names = [stage] if stage == "train" or kind == "trainings" else [*outputs(stage), *_BESIDE.get(stage, ())]
    return [name for name in (*names, f"{stage}{SUFFIX}") if (directory / name).exists()]


def _rank(stage: str) -> int:
    """What was made last moves first."""
    return _ORDER.index(stage.partition("/")[0])


def _new_folder(parent: Path) -> Path:
    moment = timestamp().replace(":", "")
    for number in range(1, 1_000):
        folder = parent / (moment if number == 1 else f"{moment}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise InputError(f"{parent} has too many moves within this second; wait a moment")


def _read_list(path: Path) -> list[str]:
    """Paths to move, each of a file or folder that a stage writes.

    Raises:
        InputError: it is damaged, or names something else.
    """
    try:
        names = parse_json(path.read_bytes())
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) and _may_move(name) for name in names):
        raise InputError(
            f"{path} is damaged: it does not list files of a run. Delete it. Files already moved are beside it, and "
            "the rest is where it was"
        )
    return names


def _may_move(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and parts[0] not in (REPLACED, lock.NAME)


def _finish(directory: Path, folder: Path) -> None:
    for name in _read_list(folder / _LIST):
        source, target = directory / name, folder / name
        if source.exists() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
            sync_directory(target.parent)
            sync_directory(source.parent)
    (folder / _LIST).unlink()
    sync_directory(folder)
