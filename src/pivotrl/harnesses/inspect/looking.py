"""What a task of Inspect AI is made of: asked once, of the interpreter that has it."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pivotrl.protocols import InputError
from pivotrl.protocols.harness import Home, json_of
from pivotrl.records import Record

_SCRIPT = Path(__file__).with_name("pivotrl_look.py")
_SECONDS = 900
"""A data set may have to be fetched."""
_LAST_WORDS = 300


class SeenSample(Record):
    """One sample."""

    targets: tuple[str, ...]
    choices: int
    sandbox: tuple[str, str] | None
    """Type, and configuration or ``""``."""


class SeenScorer(Record):
    """One scorer."""

    name: str
    parts: tuple[str, ...]
    """Of its scores; empty if they have none."""


class Seen(Record):
    """What ``pivotrl_look.py`` writes."""

    name: str
    samples: dict[str, SeenSample]
    """By their ids, in the order of the data set."""
    scorers: tuple[SeenScorer, ...]
    versions: dict[str, str]
    """Of the package that the task comes from."""
    sha256: str
    """Of all samples."""


def look(home: Home, task: str, arguments: Mapping[str, Any]) -> Seen:
    """
    Raises:
        InputError: the task cannot be loaded.
    """
    return _look(str(home.python), json.dumps({"task": task, "arguments": dict(arguments)}))


@functools.cache
def _look(python: str, asked: str) -> Seen:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "seen.json"
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        environment["XDG_DATA_HOME"] = folder
        try:
            done = subprocess.run(  # noqa: S603 - the interpreter of the harness
                [python, str(_SCRIPT), asked, str(place)],
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise InputError(f"inspect: after {_SECONDS} s the task is still not loaded; mend it") from None
        told = json_of(place)
    if not isinstance(told, dict):
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise InputError(
            f"inspect: the task cannot be loaded: {lines[-1][:_LAST_WORDS] if lines else 'no reason told'}"
        )
    if "error" in told:
        raise InputError(f"inspect: {told['error']}; mend that, or give its data set")
    try:
        return Seen.model_validate_json(json.dumps(told))
    except ValidationError as error:
        raise InputError(f"inspect: the task is not understood: {error.errors()[0]['msg']}") from error
