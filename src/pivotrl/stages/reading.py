"""Logs -> ``trajectories.jsonl`` and ``heldout.jsonl``, the only files that hold messages, split by task."""

from __future__ import annotations

import secrets as randomness
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pivotrl.options import options_dict
from pivotrl.plugins import describe, spec_of
from pivotrl.plugins.shapes import trajectories
from pivotrl.protocols import InputError, Notice, Reader
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.reading.duplicates.finding import DuplicateFinder
from pivotrl.reading.import_files import Imported, ImportFiles
from pivotrl.reading.importing import ReadOptions, Tally, treat
from pivotrl.reading.missing_parts import completion
from pivotrl.reading.privacy.redaction import Redactor
from pivotrl.reading.sources import printable, require_utf8
from pivotrl.reading.task_groups import TaskGroups
from pivotrl.records import Manifest, Trajectory
from pivotrl.runs.layout import outputs
from pivotrl.runs.replacing import move_aside
from pivotrl.runs.stage import Stage
from pivotrl.storage.record_files import counted, sha256_of_file, sha256_of_json, write_file

_BATCH = 256
_KEY_FILE = ".redaction_key"
_NAMED = "named"
"""In place of a hash, for what a reader knows by name."""


def read_stage(
    source: str,
    directory: Path,
    *,
    reader: Reader,
    reading: ReadOptions = ReadOptions(),
    heldout: str | None = None,
    overwrite: bool = False,
    observer: Observer = SILENT,
) -> None:
    """Import a source, and a second one that is held out if there is one.

    Writes ``trajectories.jsonl``, ``heldout.jsonl``, ``dropped.jsonl`` (kept out, with the reason) and
    ``refused.jsonl`` (could not be read, with its place). A source is known by its content: it may be moved.

    Args:
        overwrite: move the run that is there aside, once the sources can be read.

    Raises:
        InputError: a source is missing or holds no usable trajectory.
    """
    for place in (source, heldout):
        if place is not None and not place.strip():
            raise InputError("the source has no name; give a log file, or . for every log in this directory")
        require_utf8(Path(place or ""))
    places = {"source": source, "heldout": heldout, "tools": reading.tools, "system": reading.system}
    inputs = {role: source_hash(place) for role, place in places.items() if place}
    settings = {**options_dict(reading), "reader": describe(reader), "source": source, "heldout": heldout}
    told = [role for role in places if inputs.get(role) != _NAMED]
    if overwrite:
        for place in filter(None, (source, heldout)):
            next(trajectories(reader, Path(place)), None)
        move_aside(directory, "read")
    with Stage(
        directory, "read", settings, inputs, told, plugins={"reader": spec_of(reader)}, observer=observer
    ) as stage:
        if stage.done:
            (directory / _KEY_FILE).unlink(missing_ok=True)  # the last run may have been killed just before it did
            _tell_what_is_held_out(stage.manifest)
            return
        if stage.is_moved:  # readers take ids and places from names
            for name in outputs("read"):
                (directory / name).unlink(missing_ok=True)
        files = ImportFiles(directory)
        tally = Tally()
        duplicates = DuplicateFinder()
        groups = TaskGroups()
        redactor = Redactor(_redaction_key(directory)) if reading.redact else Redactor()
        for place, is_heldout in ((source, False), (heldout, True)):
            if place is None:
                continue
            complete = completion(
                reader, Path(place), tools=reading.tools, system=reading.system, infer_tools=reading.infer_tools
            )
            found = trajectories(reader, Path(place))
            read = (groups.told_apart(item) if isinstance(item, Trajectory) else item for item in found)
            imported = (treat(item, complete, duplicates, redactor, reading, tally) for item in read)
            for batch in _batches(imported):
                if heldout is not None:
                    batch = [replace(item, is_heldout=is_heldout) for item in batch]
                files.write(batch)
                observer.progress("trajectories read", tally.num_read, 0)
        if heldout is None and 0.0 < reading.heldout_fraction < 1.0:
            files.balance()
        _require_usable(source, files, tally, reading)
        stage.finish(
            {
                **tally.counts(),
                "train_trajectories": len(files.train),
                "heldout_trajectories": len(files.heldout),
                "train_tasks": len(files.train_tasks),
            }
        )
        (directory / _KEY_FILE).unlink(missing_ok=True)
        _tell_what_is_held_out(stage.manifest)


def nothing_held_out(manifest: Manifest) -> str:
    """Why an import left nothing to evaluate on, and what to do about it; "" where it left something."""
    if manifest.counts.get("heldout_trajectories") != 0:
        return ""
    if manifest.options.get("heldout"):
        return (
            f"no trajectory of the held-out source {manifest.options['heldout']} was kept; give another with --heldout"
        )
    fraction, num_tasks = manifest.options.get("heldout_fraction"), int(manifest.counts["train_tasks"])
    if not fraction:
        return "no task was held out, as --heldout-fraction 0 asks for"
    return (
        f"no task was held out: what was kept is of {counted(num_tasks, 'task')}, too few to set a share of {fraction} "
        "aside. Import more tasks, or give --heldout a second source"
    )


def _tell_what_is_held_out(manifest: Manifest) -> None:
    if manifest.options.get("heldout_fraction") and (reason := nothing_held_out(manifest)):
        warnings.warn(f"nothing can be measured on held-out turns: {reason}", Notice, stacklevel=3)


def _batches(items: Iterator[Imported]) -> Iterator[list[Imported]]:
    batch: list[Imported] = []
    for item in items:
        batch.append(item)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _require_usable(source: str, files: ImportFiles, tally: Tally, options: ReadOptions) -> None:
    if not len(files.train):
        first = next(iter(files.refused), None)
        told = f"; the first refused: {first.place} {first.reason}" if first else ""
        num_heldout = len(files.heldout)
        held = f"{num_heldout} of {len(files.heldout_tasks)} tasks held out, " if num_heldout else ""
        remedy = "give --heldout-fraction 0 to hold nothing out, " if num_heldout else "mend the log, "
        raise InputError(
            f"{source}: no trajectory to train on ({tally.num_read} read, {held}{tally.dropped['low_reward']} below "
            f"--min-reward {options.min_reward}, {tally.num_refused} refused{told}); {remedy}or lower --min-reward"
        )
    shared = files.heldout_tasks & files.train_tasks
    if shared:
        raise InputError(
            f"{counted(len(shared), 'task')} of the held-out source can also be trained on (such as "
            f"{sorted(shared)[0]!r}); take them out of one of the two sources, or leave --heldout out"
        )


def _redaction_key(directory: Path) -> bytes:
    """Kept while the import is under way, so that a resumed one replaces a secret by the same name."""
    path = directory / _KEY_FILE
    if not path.is_file():
        write_file(path, randomness.token_bytes(32))
        path.chmod(0o600)
    return path.read_bytes()


def source_hash(source: str | Path) -> str:
    """sha256 of a file, of a directory's files with their names, or ``named`` for what a reader knows by name."""
    path = Path(source)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.is_file())
        return sha256_of_json([(printable(p.relative_to(path)), _file_hash(p)) for p in found])
    return _file_hash(path) if path.is_file() else _NAMED


def _file_hash(path: Path) -> str:
    try:
        return sha256_of_file(path)
    except OSError:
        return "unreadable"  # the reader says why
