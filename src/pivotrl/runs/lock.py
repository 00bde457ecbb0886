"""The lock that keeps two processes off one run directory."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from types import TracebackType

from pivotrl.protocols import InputError
from pivotrl.storage.folders import remove_leftovers

NAME = ".lock"
_TRIES, _SECONDS_BETWEEN_TRIES = 4, 0.05


def is_held(directory: Path) -> bool:
    """Whether a process works in the directory now. Changes nothing."""
    path = directory / NAME
    if not path.is_file():
        return False
    with path.open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


class RunLock:
    """Keeps two processes off one run directory; released when the process ends, however it ends.

    Raises:
        InputError: on entering, another process holds it.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME

    def __enter__(self) -> RunLock:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a")
        try:
            self._take()
        except OSError as error:
            self._file.close()
            raise InputError(
                f"another process is working in {self._path.parent}; wait for it, or choose another directory"
            ) from error
        remove_leftovers(self._path.parent)
        return self

    def _take(self) -> None:
        for _ in range(_TRIES - 1):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                time.sleep(_SECONDS_BETWEEN_TRIES)  # someone may only be looking, which takes the lock for a moment
            else:
                return
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
