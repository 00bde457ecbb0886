"""A run's options as a TOML file, written into its directory and read by ``--config``."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pivotrl.plugins import unknown
from pivotrl.protocols import InputError
from pivotrl.protocols.observing import Observer
from pivotrl.records import Manifest
from pivotrl.storage.record_files import write_file

NAME = "run.toml"
"""The file in a run's directory."""
_NOT_KEPT = ("out", "resume", "overwrite", "json", "cluster")
"""Options of one call, not of the run."""


def read_config(path: Path, known: Collection[str]) -> dict[str, Any]:
    """Option -> value.

    Args:
        known: the options that exist.

    Raises:
        InputError: the file is missing or not TOML, it names an option that does not exist, or an
            option is empty or given twice.
    """
    try:
        found = tomllib.loads(path.read_text("utf-8-sig"))  # some editors write a byte order mark
    except OSError as error:
        raise InputError(f"cannot read --config {path}: {error.strerror}") from error
    except ValueError as error:  # covers TOML and UTF-8
        raise InputError(f"--config {path} is not TOML: {error}") from error
    options: dict[str, Any] = {}
    for written, value in found.items():
        name = written.replace("-", "_")
        if isinstance(value, dict):
            raise InputError(f"--config {path} has a table {written!r}; write its options without the heading")
        if name not in known:
            raise InputError(unknown(f"--config {path} has an unknown option {name!r}", name, known, "the options are"))
        if name in options:
            raise InputError(f"--config {path} gives the option {name!r} twice; leave one out")
        if value == "":
            raise InputError(f"--config {path}: {name} is empty; give a value or leave it out")
        options[name] = value
    return options


class ConfigWriter(Observer):
    """Writes the options into the run's directory as soon as the run holds its lock."""

    def __init__(self, directory: Path, options: Mapping[str, Any]) -> None:
        self._directory, self._options = directory, options

    def started(self, stage: str, manifest: Manifest) -> None:
        write_config(self._directory, self._options)


def write_config(directory: Path, options: Mapping[str, Any]) -> None:
    """Write :data:`NAME`; unset options become comments."""
    lines = ["# The options of this run. Reuse them with: pivotrl run --config run.toml -o DIRECTORY"]
    for name, value in options.items():
        if name in _NOT_KEPT:
            continue
        lines.append(f"# {name} is not set" if value is None else f"{name} = {_toml(value)}")
    write_file(directory / NAME, "\n".join(lines) + "\n")


def _toml(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, Path):
        value = str(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML forbids DEL, JSON does not
