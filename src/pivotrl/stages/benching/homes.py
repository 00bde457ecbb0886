"""The environment of a harness: installed once, in a folder of its own, at the pinned version."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.protocols.harness import Harness, Home, json_of
from pivotrl.protocols.observing import SILENT, Observer, at_work
from pivotrl.storage.folders import remove_folder
from pivotrl.storage.record_files import write_file

_DONE = "installed.json"
"""Written last: a folder without it was left by an installation that did not end."""
_ASK = """
import importlib.metadata, json, sys
found = importlib.metadata.distribution(sys.argv[1])
print(json.dumps([found.version, str(found.locate_file(""))]))
"""
_LAST_WORDS = 300


def home_of(harness: Harness, given: Path | None = None, observer: Observer = SILENT) -> Home:
    """The environment, installed if it does not exist yet.

    Args:
        given: the interpreter of a user's own environment; nothing is installed then.

    Raises:
        InputError: the package cannot be installed, or the environment has another version of it.
    """
    if given is not None:
        if given.is_dir() or not os.access(given, os.X_OK):
            raise InputError(f"--harness-python {given} is no program; give the interpreter of the environment")
        return _inspected(harness, given.absolute(), f"--harness-python {given}", _own_words(harness))
    folder = _cache() / f"{harness.package}-{harness.version}"
    python = folder / "bin" / "python"
    with _locked(folder):
        if json_of(folder / _DONE) != _facts(harness):
            with at_work(observer, f"installing {harness.package} {harness.version} into {folder}, once"):
                _install(harness, folder, python)
    return _inspected(harness, python, str(folder), f"delete {folder}, and it is installed again")


def _cache() -> Path:
    return Path(os.environ.get("PIVOTRL_CACHE") or Path.home() / ".cache" / "pivotrl") / "harnesses"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two commands at once install once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _facts(harness: Harness) -> Any:
    return {"requirements": [list(arguments) for arguments in harness.requirements]}


def _install(harness: Harness, folder: Path, python: Path) -> None:
    if folder.exists():
        remove_folder(folder)
    try:
        _run([sys.executable, "-m", "venv", str(folder)], "make an environment", harness)
        for arguments in harness.requirements:
            words = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
            _run(words, f"install {harness.package} {harness.version}", harness)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    write_file(folder / _DONE, json.dumps(_facts(harness)) + "\n")


def _run(words: Sequence[str], what: str, harness: Harness) -> None:
    done = subprocess.run(words, env=clean_environment(), capture_output=True, text=True, errors="replace")  # noqa: S603
    if done.returncode:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        told = next((line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "no reason")
        raise InputError(
            f"could not {what} ({told[:_LAST_WORDS]}). Mend that and start again, for instance once the network is "
            f"there; or {_own_words(harness)}"
        )


def _own_words(harness: Harness) -> str:
    installs = " && ".join(f"VENV/bin/pip install {' '.join(arguments)}" for arguments in harness.requirements)
    made = f"python -m venv VENV && {installs}"
    return f"make an environment yourself (`{made}`) and give --harness-python VENV/bin/python"


def _inspected(harness: Harness, python: Path, place: str, remedy: str) -> Home:
    asked = subprocess.run(  # noqa: S603
        [str(python), "-c", _ASK, harness.package], env=clean_environment(), capture_output=True, text=True
    )
    if asked.returncode:
        raise InputError(f"{place} has no {harness.package}; {remedy}")
    version, site = json.loads(asked.stdout)
    if version != harness.version:
        raise InputError(
            f"{place} has {harness.package} {version}, but results are read and compared at version {harness.version}; "
            f"{remedy}"
        )
    return Home(python, Path(site), version)


def clean_environment() -> dict[str, str]:
    """Ours, without what would lead another interpreter to our packages."""
    left_out = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    return {name: value for name, value in os.environ.items() if name not in left_out}
