"""Logs -> ``trajectories.jsonl`` and ``heldout.jsonl``, split by task. Only these files hold messages."""

from __future__ import annotations

import secrets as randomness
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pivotrl.options import options_dict
from pivotrl.plugins.describing import describe, spec_of
from pivotrl.plugins.shapes import trajectories
from pivotrl.protocols import InputError, Notice, Reader
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.reading.duplicates.finding import DuplicateFinder
from pivotrl.reading.import_files import Imported, ImportFiles
from pivotrl.reading.importing import ReadOptions, Tally, treat
from pivotrl.reading.missing_parts import completion
from pivotrl.reading.privacy.redaction import Redactor
from pivotrl.reading.source_items import SourceItems
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
"""Replaces the hash for sources that a reader knows by name."""


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
    """Import a source, and a second, held-out one if given.

    Writes ``trajectories.jsonl``, ``heldout.jsonl``, ``dropped.jsonl`` (left out, with the reason) and
    ``refused.jsonl`` (unreadable, with the place). A source is identified by its content, so it may be moved.

    Args:
        overwrite: move an existing run aside as soon as the sources can be read.

    Raises:
        InputError: a source is missing or holds no usable trajectory.
    """
    for place in (source, heldout):
        if place is not None and not place.strip():
            raise InputError("the source has no name; give a log file, or . for all logs in this directory")
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
            (directory / _KEY_FILE).unlink(missing_ok=True)  # a killed process may have left it
            _tell_what_is_held_out(stage.manifest)
            return
        if stage.is_moved:  # readers derive ids and places from file names
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
            found = SourceItems(reader, Path(place))
            complete = completion(found, tools=reading.tools, system=reading.system, infer_tools=reading.infer_tools)
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
    """Why an import left nothing to evaluate on, and what to do about it; "" if it left something."""
    if manifest.counts.get("heldout_trajectories") != 0:
        return ""
    if manifest.options.get("heldout"):
        return f"no trajectory of the held-out source {manifest.options['heldout']} was kept; give another --heldout"
    fraction, num_tasks = manifest.options.get("heldout_fraction"), int(manifest.counts["train_tasks"])
    if not fraction:
        return "no task was held out because --heldout-fraction is 0"
    return (
        f"no task was held out: {counted(num_tasks, 'task')} kept, too few to hold out a share of {fraction}. Import "
        "more tasks, or give a second source with --heldout"
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
        told = f"; the first: {first.place} {first.reason}" if first else ""
        num_heldout = len(files.heldout)
        held = f"{num_heldout} of {len(files.heldout_tasks)} tasks held out, " if num_heldout else ""
        remedy = "give --heldout-fraction 0 to hold nothing out, " if num_heldout else "fix the log, "
        raise InputError(
            f"{source}: no trajectory to train on ({tally.num_read} read, {held}{tally.dropped['low_reward']} below "
            f"--min-reward {options.min_reward}, {tally.num_refused} refused{told}); {remedy}or lower --min-reward"
        )
    shared = files.heldout_tasks & files.train_tasks
    if shared:
        raise InputError(
            f"{counted(len(shared), 'task')} of the held-out source also occur in the training source (such as "
            f"{sorted(shared)[0]!r}); remove them from one source, or leave out --heldout"
        )


def _redaction_key(directory: Path) -> bytes:
    """Kept during the import, so that a resumed import gives a secret the same replacement."""
    path = directory / _KEY_FILE
    if not path.is_file():
        write_file(path, randomness.token_bytes(32))
        path.chmod(0o600)
    return path.read_bytes()


def source_hash(source: str | Path) -> str:
    """sha256 of a file or of a directory's files with their names; ``named`` for a source known by name."""
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
