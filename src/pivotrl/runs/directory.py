"""Ways into a run directory: a process holds the lock from before its first change until it is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pivotrl.protocols import InputError
from pivotrl.runs import lock
from pivotrl.runs.layout import BENCH, REPLACED, known_stages
from pivotrl.runs.lock import RunLock
from pivotrl.runs.manifest import SUFFIX, manifest_path
from pivotrl.runs.replacing import finish_moves


def require_run(directory: Path) -> None:
    """Raises:
    InputError: the directory holds no run.
    """
    if not directory.is_dir():
        raise InputError(f"{directory} is not a directory; give the directory of a run")
    if not manifest_path(directory, "read").is_file():
        raise InputError(
            f"{directory} holds no run: it has no read.manifest.json. Start with `pivotrl read` or `pivotrl run`"
        )


def require_run_or_bench(directory: Path) -> None:
    """Raises:
    InputError: the directory holds neither a run nor benchmarks.
    """
    if not any(directory.glob(f"{BENCH}/*/*{SUFFIX}")):
        require_run(directory)


def require_page_place(path: Path | None) -> None:
    """Raises:
    InputError: a page cannot be written there: it is a folder, lies in a file, or holds something else than a page,
        such as a file of the run. None is a place of our own choice.
    """
    if path is None:
        return
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a file")
    if path.exists():
        with path.open("rb") as file:
            beginning = file.read(100).lstrip().lower()
        if beginning and not beginning.startswith(b"<!doctype html"):
            raise InputError(f"{path} exists and is not a page; give another file")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise InputError(f"{path} cannot be written: {folder} is a file")


def require_place_for_bench(directory: Path) -> None:
    """Raises:
    InputError: the directory holds something else than a run or benchmarks.
    """
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} is a file; give a directory")
    own = (lock.NAME, REPLACED, BENCH)
    if directory.is_dir() and not known_stages(directory) and any(p.name not in own for p in directory.iterdir()):
        raise InputError(f"{directory} holds files but no pivotrl run; choose another directory")


@contextmanager
def working_in(directory: Path) -> Iterator[None]:
    """Lock the directory of a run.

    Raises:
        InputError: it holds no run, or another process is working in it.
    """
    require_run(directory)
    with RunLock(directory):
        finish_moves(directory)
        yield


@contextmanager
def starting_in(directory: Path, resume: bool, overwrite: bool) -> Iterator[None]:
    """Lock a directory where a run starts or resumes; with ``overwrite`` the stage itself moves what it replaces.

    Raises:
        InputError: the directory is not empty and neither flag is given, it holds something else than a run, or another
            process is working in it.
    """
    _require_place(directory, resume, overwrite)
    with RunLock(directory):
        finish_moves(directory)
        _require_place(directory, resume, overwrite)
        yield


def _require_place(directory: Path, resume: bool, overwrite: bool) -> None:
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} is a file; give a directory")
    own = (lock.NAME, REPLACED)
    if not directory.exists() or all(path.name in own for path in directory.iterdir()):
        return
    if overwrite and not (known_stages(directory) or (directory / REPLACED).is_dir()):
        raise InputError(f"{directory} holds files but no pivotrl run; choose another directory")
    if not overwrite and not resume:
        raise InputError(f"{directory} is not empty; add --resume to continue, or --overwrite to start again")
