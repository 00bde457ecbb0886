"""Manifests: how an output was made, and what it was.

A manifest stands beside what its stage wrote. Once the stage is finished it holds the hash and the size of every file,
and its own checksum, so that loss and damage are told and never read as data.
"""

from __future__ import annotations

import json
import shlex
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import ValidationError

from pivotrl.protocols import InputError, Notice
from pivotrl.records import SCHEMA_VERSION, Manifest, Output
from pivotrl.runs.layout import BENCH, outputs
from pivotrl.storage.record_files import (
    counted,
    examine,
    sha256_of_file,
    sha256_of_json,
    validation_message,
    write_file,
)

SUFFIX = ".manifest.json"


def manifest_path(directory: Path, stage: str) -> Path:
    return directory / f"{stage}{SUFFIX}"


def find_manifest(directory: Path, stage: str) -> Manifest | None:
    """The manifest of a stage; None if the stage was never started.

    Raises:
        InputError: as :func:`read_manifest`.
    """
    path = manifest_path(directory, stage)
    return read_manifest(path) if path.is_file() else None


def read_manifest(path: Path) -> Manifest:
    """Raises:
    InputError: it is damaged, or a newer version of pivotrl wrote it.
    """
    try:
        content = json.loads(path.read_bytes())
        _require_known_schema(path, content)
        manifest = Manifest.model_validate(content)
        fault = "" if manifest.checksum in ("", _checksum(content)) else "its checksum does not match"
    except ValidationError as error:
        fault = validation_message(error)
    except InputError:
        raise
    except (ValueError, RecursionError):
        fault = "it is not JSON"
    if fault:
        raise InputError(
            f"{path} is damaged: {fault}. Restore the file, or run its stage again with --overwrite, which moves the "
            "old files aside"
        )
    return manifest


def _require_known_schema(path: Path, content: object) -> None:
    version = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise InputError(
            f"{path} was written by a newer version of pivotrl: its records have version {version}, and this one reads "
            f"up to {SCHEMA_VERSION}. Update pivotrl"
        )


def write_manifest(path: Path, manifest: Manifest) -> Manifest:
    """The manifest as it was written, with its checksum."""
    checksum = _checksum(json.loads(manifest.model_dump_json()))
    manifest = manifest.model_copy(update={"checksum": checksum})
    write_file(path, manifest.model_dump_json(indent=2) + "\n")
    return manifest


def _checksum(content: dict[str, object]) -> str:
    """Checksum of the fields in the file, so that a later version may add others."""
    return sha256_of_json({name: value for name, value in content.items() if name != "checksum"})


def outputs_of(directory: Path, names: Iterable[str]) -> dict[str, Output | None]:
    """The files of a stage as they are now.

    Args:
        names: files and folders, by their path in the directory.
    """
    found: dict[str, Output | None] = {}
    for name in names:
        path = directory / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                rows = examine(file)[0] if file.suffix == ".jsonl" else None
                output = Output(sha256=sha256_of_file(file), num_bytes=file.stat().st_size, num_rows=rows)
                found[file.relative_to(directory).as_posix()] = output
            elif not file.is_dir():
                found[name] = None
    return found


def verify_outputs(
    directory: Path, stage: str, manifest: Manifest, wanted: Callable[[str], bool] = lambda name: True
) -> None:
    """Compare the files of a finished stage with its manifest.

    Args:
        wanted: whether to check a file, by its path in the directory.

    Raises:
        InputError: one was damaged, cut, doubled, replaced or removed; file, rows found, rows expected and remedy are
            named.
    """
    if manifest.outputs is None:
        always = outputs(stage)[:1] if stage in ("read", "profile", "select") else ()
        if missing := [name for name in always if not (directory / name).is_file()]:
            raise InputError(f"{directory / missing[0]} is missing. {remedy(directory, stage, manifest)}")
        warnings.warn(
            f"{manifest_path(directory, stage)} was written by an older version and does not list the stage's files, "
            "so they cannot be verified",
            Notice,
            stacklevel=2,
        )
        return
    for name, output in manifest.outputs.items():
        if wanted(name) and (fault := _fault(directory / name, output)):
            raise InputError(f"{directory / name} {fault}. {remedy(directory, stage, manifest)}")


def require_no_strangers(directory: Path, name: str) -> None:
    """A stage writes its manifest first, so files without one come from elsewhere, or their manifest was lost.

    Raises:
        InputError: the stage has files and no manifest.
    """
    for output in outputs(name):
        if (directory / output).exists():
            raise InputError(
                f"{directory / output} exists without {manifest_path(directory, name)}, so its origin is unknown. "
                f"Restore the manifest, or run the stage again with `{again(directory, name)}`, which moves the old "
                "files aside"
            )


def _fault(path: Path, output: Output | None) -> str:
    if output is None:
        return "exists but was not written by the stage" if path.exists() else ""
    expected = f"{output.num_bytes:,} bytes" if output.num_rows is None else counted(output.num_rows, "row")
    if not path.is_file():
        return f"is missing: found 0 of the {expected} that were written"
    size = path.stat().st_size
    if size == output.num_bytes and sha256_of_file(path) == output.sha256:
        return ""
    if output.num_rows is None:
        found = "other ones" if size == output.num_bytes else f"{size:,} bytes"
        return f"was changed after it was written: found {found}, expected {expected}"
    rows, fault = examine(path)
    told = (
        f"; {fault}" if fault else "; the rows differ from those that were written" if rows == output.num_rows else ""
    )
    return f"was changed after it was written: found {counted(rows, 'row')}, expected {expected}{told}"


def remedy(directory: Path, stage: str, manifest: Manifest) -> str:
    """What to do about a damaged output. A selection costs nothing, so it is rewritten in place."""
    if stage == "select" or stage.startswith("selections/"):
        given = {option: value for option, value in manifest.options.items() if value is not None}
        options = [word for option, value in given.items() for word in (f"--{option.replace('_', '-')}", str(value))]
        command = f"{again(directory, stage).removesuffix(' --overwrite')} {shlex.join(options)}".strip()
        return f"Restore the file, or rewrite it with `{command}`"
    return (
        f"Restore the file, or run the stage again with `{again(directory, stage, manifest)}` and the same options: "
        "the old files are moved aside, not deleted"
    )


def again(directory: Path, stage: str, manifest: Manifest | None = None) -> str:
    """The command that runs a stage again, without its options."""
    folder, _, name = stage.rpartition("/")
    folder, _, bench = folder.partition("/")
    place, source = str(directory), str(manifest.options.get("source", "SOURCE")) if manifest else "SOURCE"
    words = {
        "": ["read", source, "-o", place] if stage == "read" else [stage, place],
        "selections": ["select", place, "--name", name],
        "trainings": ["train", place, "--name", name],
        "evaluations": ["evaluate", place, "--name", name],
        "plan": ["plan", place],
        BENCH: ["bench", str(manifest.plugins.get("harness") if manifest else bench), place, "--player", name],
    }[folder]
    return shlex.join(["pivotrl", *words, "--overwrite"])
