"""Folders that appear whole or not at all, and the removal of what killed writers left behind.

A folder is filled under a hidden name beside its place, ``.NAME.PID.tmp``, and takes its place by one rename. A folder
that is replaced waits as ``.NAME.PID.old`` until the new one is there.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SCRATCH = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)\.(?P<kind>tmp|old)")


def scratch_path(path: Path, kind: str = "tmp") -> Path:
    """The hidden neighbour that this process writes before it takes the place of ``path``."""
    return path.with_name(f".{path.name}.{os.getpid()}.{kind}")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill. At the end of the ``with`` block it is synced to the disk and becomes ``path``.

    An older folder at ``path`` stays until then, and stays for good when the block raises.

    Raises:
        OSError: the disk is full or not writable; nothing is left of the new folder.
    """
    scratch, old = scratch_path(path), scratch_path(path, "old")
    _remove(scratch)
    scratch.mkdir(parents=True)
    try:
        yield scratch
        _sync_tree(scratch)
        _remove(old)
        if path.exists():
            path.rename(old)
        try:
            scratch.rename(path)
        except BaseException:
            if old.exists():
                old.rename(path)
            raise
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    sync_directory(path.parent)
    _remove(old)


def remove_folder(path: Path) -> None:
    """Remove a folder so that no part of it is ever seen under its name."""
    scratch = scratch_path(path)
    _remove(scratch)
    path.rename(scratch)
    _remove(scratch)


def remove_leftovers(directory: Path) -> None:
    """Remove, at any depth, what killed processes were writing. A folder that one was replacing is put back.

    For the holder of the directory's lock: every other writer is dead then, but for one that writes without the lock,
    whose files are spared as long as its process lives.
    """
    # Unlike rglob, walk passes over folders that a writer without the lock moves meanwhile.
    inside = (Path(place, name) for place, folders, files in os.walk(directory) for name in (*folders, *files))
    for path in sorted((path for path in inside if path.name.startswith(".")), reverse=True):
        found = _SCRATCH.fullmatch(path.name)
        if found is None or _is_alive(int(found["pid"])) or not path.exists():
            continue
        place = path.with_name(found["name"])
        if found["kind"] == "old" and not place.exists():
            path.rename(place)
        else:
            _remove(path)


def sync_directory(path: Path) -> None:
    """Return when the names in the directory are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(folder: Path) -> None:
    for parent, _, files in os.walk(folder, topdown=False):
        for name in files:
            with Path(parent, name).open("rb") as file:
                os.fsync(file.fileno())
        sync_directory(Path(parent))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    """Whether another process of that number is there. Our own number was a dead process's before."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
