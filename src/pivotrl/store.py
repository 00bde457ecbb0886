"""Durable keyed record files and manifests.

A record file is JSON lines, append-only. Each line ends with the CRC-32 of the JSON before it, so that a torn last
line is cut (and counted) and damage in the middle is reported with its place, never skipped. Work is a set of keys:
what is in the file is done and is never bought again.
"""

from __future__ import annotations

import fcntl
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
from types import TracebackType
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from pivotrl.atomic_folder import remove_leftovers, scratch_path, sync_directory
from pivotrl.protocols import InputError
from pivotrl.records import Manifest, Record

R = TypeVar("R", bound=Record)

_CHECKSUM = re.compile(rb',"_crc32":"([0-9a-f]{8})"\}\Z')


def encode_line(record: Record) -> bytes:
    """The record as one JSON line with its checksum as the last field."""
    body = record.model_dump_json(exclude_defaults=True).encode()
    inner = body[:-1] if body != b"{}" else b'{"_empty":true'
    return inner + b',"_crc32":"%08x"}\n' % zlib.crc32(body)


def decode_line(line: bytes, model: type[R]) -> R:
    """The record of one line.

    Raises:
        ValueError: the checksum is missing or wrong, or the JSON is not such a record.
    """
    match = _CHECKSUM.search(line)
    if match is None:
        raise ValueError("the line does not end with its checksum")
    body = line[: match.start()] + b"}"
    if body == b'{"_empty":true}':
        body = b"{}"
    if zlib.crc32(body) != int(match.group(1), 16):
        raise ValueError("the checksum does not fit the line")
    return model.model_validate_json(body)


def validation_message(error: ValidationError) -> str:
    """A pydantic error as one line: field and fault, the first three."""
    parts = [f"{'.'.join(map(str, item['loc'])) or 'record'}: {item['msg']}" for item in error.errors()[:3]]
    return "; ".join(parts)


class RecordFile(Generic[R]):
    """An append-only file of records with a key each.

    Opening reads the keys and raises on damage, but for a torn last line: that is left out (``num_torn_bytes``) and
    cut by the next append. Reading changes nothing, so a reader may look while another process writes.
    An append returns when the data is on disk.

    Raises:
        ValueError: a line in the middle is damaged (file, line, byte and reason are named), or a key is appended
            twice.
        OSError: the disk is full or not writable; what was appended before stays readable.
    """

    def __init__(self, path: Path, model: type[R], key: Callable[[R], str]) -> None:
        self.path, self.model, self._key = path, model, key
        self._offsets: dict[str, int] = {}
        self.num_torn_bytes = 0
        self._end = 0
        if path.exists():
            self._index()

    def _index(self) -> None:
        offset, end = 0, self.path.stat().st_size
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    if not line.endswith(b"\n"):
                        raise ValueError("the line has no end")
                    record = decode_line(line[:-1], self.model)
                except ValidationError as error:
                    raise ValueError(
                        f"{self.path}:{number} is not a {self.model.__name__}: {validation_message(error)}. "
                        "It was written by another version; start a new run directory"
                    ) from error
                except ValueError as error:
                    if offset + len(line) >= end:
                        self.num_torn_bytes = len(line)
                        break
                    raise ValueError(
                        f"{self.path}:{number} (byte {offset}) is damaged: {error}. "
                        "Restore the file, or delete it and run the stage again with --resume"
                    ) from error
                self._offsets[self._key(record)] = offset
                offset += len(line)
        self._end = offset

    def append(self, records: Iterable[R]) -> None:
        """Write the records after each other and return when they are on disk."""
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
                raise ValueError(f"{self.path} was changed by another writer after it was opened; resume the stage")
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
    """All records of a finished file.

    Raises:
        InputError: the file is missing.
        ValueError: a line is damaged.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; run the stage that writes it first")
    return list(RecordFile(path, model, key=lambda _: ""))  # the order is all that is asked for


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:  # a write to a nearly full disk may be short without raising
        view = view[os.write(descriptor, view) :]


def write_file(path: Path, data: bytes | str) -> None:
    """Replace a file as a whole: a reader sees the old or the new one, never a part."""
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
    for name in ("pivotrl", "torch", "transformers", "peft", "numpy", "plancraft"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class RunLock:
    """Keeps two processes off one run directory; released when the process ends, however it ends."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / ".lock"

    def __enter__(self) -> RunLock:
        self._file = self._path.open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise InputError(
                f"another process is working in {self._path.parent}; wait for it, or choose another directory"
            ) from error
        remove_leftovers(self._path.parent)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def timestamp() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Stage:
    """One stage of a run: its manifest, started or taken up again.

    A finished stage with the same options and inputs is skipped (``done``); one with others is refused, listing the
    differences. Times add up over resumptions.

    Raises:
        InputError: the directory holds this stage with other options or inputs.
    """

    def __init__(self, directory: Path, name: str, options: dict[str, Any], inputs: dict[str, str]) -> None:
        self.path = directory / f"{name}.manifest.json"
        options = json.loads(json.dumps(options, default=str))
        self._start = time.monotonic()
        fresh = Manifest(
            stage=name,
            status="running",
            options=options,
            inputs=inputs,
            versions=package_versions(),
            started_at=timestamp(),
        )
        if self.path.exists():
            old = read_manifest(self.path)
            differences = [
                f"{field}: was {before.get(field)!r}, now {after.get(field)!r}"
                for before, after in ((old.options, options), (old.inputs, inputs))
                for field in sorted(before.keys() | after.keys())
                if before.get(field) != after.get(field)
            ]
            differences += [
                f"version of {package}: was {old.versions[package]}, now {fresh.versions[package]}"
                for package in ("pivotrl", "torch", "transformers")
                if package in old.versions
                and package in fresh.versions
                and old.versions[package] != fresh.versions[package]
            ]
            if differences:
                listed = "\n  ".join(differences)
                raise InputError(
                    f"{self.path} was made with other settings:\n  {listed}\n"
                    "Use another output directory, or --overwrite to start again"
                )
            self.manifest = old
        else:
            self.manifest = fresh
            self._write()
        self.done = self.manifest.status == "complete"

    def _write(self) -> None:
        write_file(self.path, self.manifest.model_dump_json(indent=2) + "\n")

    def finish(self, counts: dict[str, Any], num_rollout_turns: int = 0) -> None:
        self.manifest = self.manifest.model_copy(
            update={
                "status": "complete",
                "counts": counts,
                "num_rollout_turns": num_rollout_turns,
                "finished_at": timestamp(),
                "wall_seconds": round(self.manifest.wall_seconds + time.monotonic() - self._start, 3),
            }
        )
        self._write()
        self.done = True

    def pause(self) -> None:
        """Keep the time spent so far; called when the stage is interrupted."""
        spent = self.manifest.wall_seconds + time.monotonic() - self._start
        self.manifest = self.manifest.model_copy(update={"wall_seconds": round(spent, 3)})
        self._write()

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self.done and not isinstance(error, OSError):
            self.pause()


def read_manifest(path: Path) -> Manifest:
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(f"{path} is not a manifest: {validation_message(error)}") from error
