"""Files inside a zip, with a bound on what they unpack to, and also those packed with zstandard."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pivotrl.reading.packages import package
from pivotrl.reading.proportion import max_unpacked
from pivotrl.reading.sources import MAX_DOCUMENT_BYTES

_ZSTANDARD = 93
"""The number of this compression in a zip; the standard library knows it from Python 3.14 on."""


def unpacked(path: Path, archive: zipfile.ZipFile, name: str, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """The bytes of a file in the zip, of which no more than ``max_bytes`` are ever unpacked, and no more than are in
    proportion to its packed size.

    Raises:
        ValueError: it is damaged or too large.
        InputError: it is packed with zstandard, and that package is not installed.
    """
    info = archive.getinfo(name)
    max_bytes = min(max_bytes, max_unpacked(info.compress_size))
    try:
        with _opened(path, archive, info) as file:
            data = file.read(max_bytes + 1)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"cannot be unpacked: {error}") from error
    if len(data) > max_bytes:
        raise ValueError(f"unpacks to more than {max_bytes} bytes")
    if zlib.crc32(data) != info.CRC:
        raise ValueError("cannot be unpacked: the checksum does not match")
    return data


@contextmanager
def _opened(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[IO[bytes]]:
    if info.compress_type != _ZSTANDARD:
        with archive.open(info) as file:
            yield file
        return
    zstandard = package("zstandard", path)
    with path.open("rb") as raw:
        raw.seek(info.header_offset)
        header = raw.read(30)
        raw.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), io.SEEK_CUR)
        packed = io.BytesIO(raw.read(info.compress_size))
    try:
        with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as file:
            yield file
    except zstandard.ZstdError as error:
        raise zipfile.BadZipFile(str(error)) from error
