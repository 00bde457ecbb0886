"""The bytes of a file, decompressed by its suffix: plain, .gz or .zst."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pivotrl.protocols import InputError
from pivotrl.reading.packages import package
from pivotrl.reading.proportion import require_proportion

_PACKED_BYTES = 1 << 10
"""Bytes read at once from a zstd file: the unpacked data is held, and zeros unpack to 30,000 times as much."""


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes.

    Raises:
        InputError: the file is missing, empty, no regular file, or may not be read; inside the ``with``, where it is
            damaged, ends too early, or unpacks to more than :data:`~pivotrl.reading.proportion.MAX_RATIO` times its
            size.
    """
    try:
        if not path.exists():
            raise InputError(f"{path} does not exist; give the file that holds the log")
        if not path.is_file():
            raise InputError(f"{path} is {'a directory' if path.is_dir() else 'no regular file'}; give one file")
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty; give a log with at least one trajectory")
        with path.open("rb") as raw:
            if path.suffix == ".gz":
                with gzip.open(raw) as unzipped:
                    file = io.BufferedReader(_InProportion(unzipped.readinto1, path))  # 1: what precedes damage
                    yield from _unpacked(path, "gzip", file, gzip.BadGzipFile, zlib.error)
            elif path.suffix == ".zst":
                zstandard = package("zstandard", path)
                frames = _ZstdFile(raw, zstandard.ZstdDecompressor().decompressobj)
                file = io.BufferedReader(_InProportion(frames.readinto, path))
                yield from _unpacked(path, "zstd", file, zstandard.ZstdError)
            else:
                yield raw
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def _unpacked(path: Path, kind: str, file: IO[bytes], *faults: type[Exception]) -> Iterator[IO[bytes]]:
    damage: tuple[type[Exception], ...] = (EOFError, *faults)
    try:
        yield file
    except damage as error:
        raise InputError(f"{path} is a damaged {kind} file: {error}; get it again") from error


class _InProportion(io.RawIOBase):
    """The bytes of a packed file, as long as they stay in proportion to it."""

    def __init__(self, read_into: Callable[[Any], int], path: Path) -> None:
        self._read_into, self._path, self._num_bytes = read_into, path, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self._read_into(buffer)
        self._num_bytes += size
        require_proportion(self._path, self._num_bytes)
        return size


class _ZstdFile(io.RawIOBase):
    """The bytes of all frames of a file. The package's own reader ends silently if the file was cut off."""

    def __init__(self, raw: IO[bytes], new_frame: Callable[[], Any]) -> None:
        self._raw, self._new_frame = raw, new_frame
        self._frame: Any = None
        self._packed = b""
        self._plain = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._plain:
            packed = self._packed or self._raw.read(_PACKED_BYTES)
            if not packed:
                if self._frame is not None:
                    raise EOFError("it ends in the middle")
                return 0
            self._frame = self._frame or self._new_frame()
            self._plain = memoryview(self._frame.decompress(packed))
            self._packed = b""
            if self._frame.eof:
                self._packed, self._frame = self._frame.unused_data, None
        size = min(len(buffer), len(self._plain))
        buffer[:size] = self._plain[:size]
        self._plain = self._plain[size:]
        return size
