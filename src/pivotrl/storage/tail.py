"""New records of a file that another process is writing. Reading changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Generic, TypeVar

from pivotrl.records import Record
from pivotrl.storage.record_files import decode_line

R = TypeVar("R", bound=Record)


class Tail(Generic[R]):
    """The records of a file that were not read before. A last line that is not whole is left for the next time.

    Args:
        path: may not exist yet.
    """

    def __init__(self, path: Path, model: type[R]) -> None:
        self._path, self._model = path, model
        self._offset = 0
        self._inode = 0

    def new(self) -> tuple[list[R], bool]:
        """(records since the last call, whether the file is another one than then, so that they are all it holds).

        Raises:
            ValueError: a whole line is damaged.
        """
        try:
            with self._path.open("rb") as file:
                found = file.seek(0, 2), self._path.stat().st_ino
                is_other = found[0] < self._offset or found[1] != self._inode
                self._offset, self._inode = (0 if is_other else self._offset), found[1]
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            was_there, self._offset, self._inode = self._inode != 0, 0, 0
            return [], was_there
        whole = data[: data.rfind(b"\n") + 1]
        records = []
        for line in whole.splitlines():
            try:
                records.append(decode_line(line, self._model))
            except ValueError as error:
                if len(records) + 1 == whole.count(b"\n") and len(whole) == len(data):
                    break  # the last line: its first bytes may be a leftover that the writer is about to cut
                raise ValueError(f"{self._path} is damaged after byte {self._offset}: {error}") from error
            self._offset += len(line) + 1
        return records, is_other
