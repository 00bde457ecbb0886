"""Durable keyed record files.

A record file is JSON lines, append-only. Each line ends with the CRC-32 of the JSON before it, so that a torn last
line is cut (and counted) and damage in the middle is reported with its place, never skipped. Work is a set of keys:
what is in the file is done and is never bought again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from pivotrl.protocols import InputError
from pivotrl.records import Record
from pivotrl.storage.folders import scratch_path, sync_directory

R = TypeVar("R", bound=Record)

_CHECKSUM = re.compile(rb',"_crc32":"([0-9a-f]{8})"\}\Z')


def encode_line(record: Record) -> bytes:
    """The record as one JSON line with its checksum as the last field."""
    body: bytes = record.__pydantic_serializer__.to_json(record, exclude_defaults=True)
    inner = body[:-1] if body != b"{}" else b'{"_empty":true'
    return inner + b',"_crc32":"%08x"}\n' % zlib.crc32(body)


def decode_line(line: bytes, model: type[R]) -> R:
    """The record of one line.

    Raises:
        ValueError: the checksum is missing or wrong, or the JSON is not such a record.
    """
    if _CHECKSUM.search(line) is None:
        raise ValueError("the line does not end with its checksum")
    body = _body(line)
    if body is None:
        raise ValueError("the checksum does not match the line")
    return model.model_validate_json(body)


def _body(line: bytes) -> bytes | None:
    """The JSON of a line without its checksum; None if the checksum is missing or does not match."""
    match = _CHECKSUM.search(line)
    if match is None:
        return None
    body = line[: match.start()] + b"}"
    if body == b'{"_empty":true}':
        body = b"{}"
    return body if zlib.crc32(body) == int(match.group(1), 16) else None


def validation_message(error: ValidationError) -> str:
    """A pydantic error as one line: field and fault, the first three."""
    parts = [f"{'.'.join(map(str, item['loc'])) or 'record'}: {item['msg']}" for item in error.errors()[:3]]
    return "; ".join(parts)


class RecordFile(Generic[R]):
    """An append-only file of records with a key each, :attr:`Record.key` unless another is given.

    Opening reads the keys and raises on damage, but for a torn last line: that is left out (``num_torn_bytes``) and
    cut by the next append. Reading changes nothing, so a reader may look while another process writes.
    An append returns when the data is on disk.

    Raises:
        ValueError: a line in the middle is damaged (file, line, byte and reason are named), a key stands in the file
            twice, or is appended twice.
        OSError: the disk is full or not writable; what was appended before stays readable.
    """

    def __init__(self, path: Path, model: type[R], key: Callable[[R], str] | None = None) -> None:
        self.path, self.model, self._key = path, model, key or (lambda record: record.key)
        self._offsets: dict[str, int] = {}
        self.num_torn_bytes = 0
        self._end = 0
        if path.exists():
            self._index()

    def _index(self) -> None:
        offset, end = 0, self.path.stat().st_size
        repeated: list[str] = []
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    if not line.endswith(b"\n"):
                        raise ValueError("the line is incomplete")
                    record = decode_line(line[:-1], self.model)
                except ValidationError as error:
                    raise ValueError(
                        f"{self.path}:{number} is not a {self.model.__name__}: {validation_message(error)}. "
                        "Another version of pivotrl wrote it, or it was edited by hand"
                    ) from error
                except ValueError as error:
                    if offset + len(line) >= end:
                        self.num_torn_bytes = len(line)
                        break
                    raise ValueError(
                        f"{self.path}:{number} (byte {offset}) is damaged: {error}. "
                        "Restore the file, or start its stage again with --overwrite, which moves it aside"
                    ) from error
                key = self._key(record)
                if key in self._offsets:
                    repeated.append(f"{key!r} in line {number}")
                self._offsets[key] = offset
                offset += len(line)
        self._end = offset
        if repeated:
            raise ValueError(
                f"{self.path} holds {counted(len(repeated), 'row')} twice (first {repeated[0]}). Remove the repeated "
                "lines, or start its stage again with --overwrite, which moves it aside"
            )

    def append(self, records: Iterable[R]) -> None:
        """Write the records in order and return when they are on disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines: dict[str, bytes] = {}
        for record in records:
            key = self._key(record)
            if key in self._offsets or key in lines:
                raise ValueError(f"{self.path} already holds {key!r}")
            lines[key] = encode_line(record)
        if not lines:
            return
        existed = self.path.exists()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            start = self._end
            if os.fstat(descriptor).st_size != start + self.num_torn_bytes:
                raise ValueError(f"{self.path} was changed by another process after it was opened; resume the stage")
            if self.num_torn_bytes:
                os.ftruncate(descriptor, start)
                self.num_torn_bytes = 0
            try:
                _write_all(descriptor, b"".join(lines.values()))
                os.fdatasync(descriptor)
            except OSError:
                os.ftruncate(descriptor, start)  # shrinking needs no space: leave whole records only
                raise
        finally:
            os.close(descriptor)
        if not existed:
            sync_directory(self.path.parent)
        for key, line in lines.items():
            self._offsets[key] = start
            start += len(line)
        self._end = start

    def __contains__(self, key: str) -> bool:
        return key in self._offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def keys(self) -> list[str]:
        return list(self._offsets)

    def get(self, key: str) -> R:
        with self.path.open("rb") as file:
            file.seek(self._offsets[key])
            return decode_line(file.readline()[:-1], self.model)

    def __iter__(self) -> Iterator[R]:
        if not self._offsets:
            return
        with self.path.open("rb") as file:
            position = 0
            while position < self._end:
                line = file.readline()
                position += len(line)
                yield decode_line(line[:-1], self.model)


def read_records(path: Path, model: type[R]) -> list[R]:
    """All records of a file that is finished, in order.

    Raises:
        InputError: the file is missing.
        ValueError: a line is damaged, the last one included, or stands in it twice.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; restore it, or run the stage that writes it")
    return list(require_whole(RecordFile(path, model)))


def require_whole(file: RecordFile[R]) -> RecordFile[R]:
    """The file, if its last record is no torn one.

    Raises:
        ValueError: it is.
    """
    if file.num_torn_bytes:
        raise ValueError(
            f"{file.path} ends in {counted(file.num_torn_bytes, 'byte')} of an incomplete record, after "
            f"{counted(len(file), 'row')}. Restore the file, or start its stage again with --overwrite, which "
            "moves it aside"
        )
    return file


def examine(path: Path) -> tuple[int, str]:
    """(whole records that a file holds, what is wrong with its lines or ""), whatever their model."""
    num_rows, fault, seen, repeated = 0, "", set(), 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            body = _body(line[:-1]) if line.endswith(b"\n") else None
            if body is None:
                fault = fault or f"line {number} is damaged"
                continue
            num_rows += 1
            digest = hashlib.sha256(body).digest()
            repeated += digest in seen
            seen.add(digest)
    if repeated:
        fault = f"{fault}, and {repeated}" if fault else f"{repeated}"
        fault += " of them stand in it a second time" if repeated > 1 else " of them stands in it a second time"
    return num_rows, fault


def counted(number: int, noun: str) -> str:
    """1 row, 1,200 rows."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:  # a write to a nearly full disk may be short without raising
        view = view[os.write(descriptor, view) :]


def write_file(path: Path, data: bytes | str) -> None:
    """Replace a whole file: a reader sees the old or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = scratch_path(path)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        try:
            _write_all(descriptor, data.encode() if isinstance(data, str) else data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sha256_of_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@functools.cache
def package_versions() -> dict[str, str]:
    found = {}
    for name in ("pivotrl", "torch", "transformers", "peft", "numpy", "plancraft", "textworld"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def timestamp() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
