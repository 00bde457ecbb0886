"""Files of logs as JSON values, each with its place: JSON lines, JSON documents, Parquet, Arrow; plain, .gz or .zst.

Lines are read one at a time, so memory does not grow with the file; a document (one JSON value for the whole file) is
held as a whole. What cannot be read becomes a :class:`~pivotrl.records.Refusal` that names file, line and byte, and
the rest goes on.
"""

from __future__ import annotations

import codecs
import functools
import gzip
import importlib
import io
import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import IO, Any, cast

from pydantic import ValidationError

from pivotrl.protocols import InputError
from pivotrl.records import Refusal, Trajectory
from pivotrl.store import validation_message
from pivotrl.strict_json import parse_json

MAX_LINE_BYTES = 64 << 20
MAX_DOCUMENT_BYTES = 1 << 30
"""A document is held in memory as a whole, lines are not."""
_HEAD = 20
_ARROW_ROWS = 64


@dataclass(frozen=True)
class Entry:
    """One value of a file."""

    place: str
    """``runs.jsonl:17 (byte 5210)``, or ``runs.json, element 3``."""
    number: int
    """Line, element or row, from 1."""
    load: Callable[[], Any]
    """Parses the value. Raises ValueError with what the place is, such as ``is not JSON: ...``."""


def entries(path: Path) -> Iterator[Entry]:
    """The values of a file: lines, elements of an array, rows of a table, or the one value of a document.

    Raises:
        InputError: the file is missing, empty, no regular file, of an unknown kind, or a document that is not JSON.
    """
    if is_arrow(path):
        yield from _rows(path)
    elif _is_document(path):
        yield from _elements(path)
    else:
        yield from _lines(path)


def head(path: Path) -> list[Any]:
    """The first values of a file that can be parsed, at most 20: what readers recognise a format by.

    Raises:
        InputError: as :func:`entries`.
    """
    values: list[Any] = []
    for entry in itertools.islice(entries(path), 10 * _HEAD):
        try:
            values.append(entry.load())
        except ValueError:
            continue
        if len(values) == _HEAD:
            break
    return values


def load_document(path: Path) -> Any:
    """The one JSON value of a file.

    Raises:
        InputError: the file cannot be read, is larger than 1 GiB, or is not JSON.
    """
    with _open(path) as file:
        data = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        raise InputError(f"{path} is one document of over {MAX_DOCUMENT_BYTES >> 30} GiB; make it JSON lines")
    try:
        return parse_json(data.removeprefix(codecs.BOM_UTF8))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start + 1}); convert it") from error
    except JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno} is not JSON: {error.msg} (column {error.colno}); mend it") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}; mend it") from error


def convert_entries(
    path: Path, convert: Callable[[Any, Entry], Trajectory | Iterable[Trajectory]]
) -> Iterator[Trajectory | Refusal]:
    """Each value of the file as a trajectory, or several; what cannot be read or converted as a refusal.

    Args:
        convert: raises ValueError with a one-line reason.

    Raises:
        InputError: the file as a whole cannot be read.
    """
    for entry in entries(path):
        try:
            value = entry.load()
        except ValueError as error:
            yield Refusal(place=entry.place, reason=str(error))
            continue
        try:
            made = convert(value, entry)
            yield from (made,) if isinstance(made, Trajectory) else list(made)
        except ValueError as error:
            yield refusal(entry.place, error)


def refusal(place: str, error: ValueError) -> Refusal:
    reason = validation_message(error) if isinstance(error, ValidationError) else str(error)
    return Refusal(place=place, reason=f"is not a trajectory: {reason}")


def is_arrow(path: Path) -> bool:
    """Whether the path is a Parquet file, or a dataset that Hugging Face's library saved (one split or several)."""
    if path.is_dir():
        return any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json"))
    return path.suffix in (".parquet", ".arrow")


# --- lines and documents ------------------------------------------------------------------------------------------


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, decompressed by its suffix."""
    try:
        if not path.exists():
            raise InputError(f"{path} does not exist; give the file that holds the log")
        if not path.is_file():
            raise InputError(f"{path} is {'a directory' if path.is_dir() else 'no regular file'}; give one file")
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty; give a log with at least one trajectory")
        with path.open("rb") as raw:
            try:
                if path.suffix == ".gz":
                    with gzip.open(raw) as file:
                        yield cast("IO[bytes]", file)
                elif path.suffix == ".zst":
                    yield from _zstd(raw, path)
                else:
                    yield raw
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                raise InputError(f"{path} is a damaged gzip file: {error}; get it again") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def _zstd(raw: IO[bytes], path: Path) -> Iterator[IO[bytes]]:
    zstandard = _package("zstandard", path)
    try:
        yield io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(raw))
    except zstandard.ZstdError as error:
        raise InputError(f"{path} is a damaged zstd file: {error}; get it again") from error


def _package(name: str, path: Path) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(f"{path} needs {name}: pip install 'pivotrl[formats]'") from error


def _is_document(path: Path) -> bool:
    """Told by the first line that is not blank: an array, an opening brace alone, or half of an object."""
    with _open(path) as file:
        line = b"\n"
        while line and not line.strip():
            line = file.readline(MAX_LINE_BYTES + 1)
        more = bool(file.read(1))
    line = line.removeprefix(codecs.BOM_UTF8).strip()
    is_lines = [suffix for suffix in path.suffixes if suffix not in (".gz", ".zst")][-1:] == [".jsonl"]
    if line.startswith(b"["):
        return not (is_lines and line.endswith(b"]") and more)
    return line == b"{" or not (is_lines or (line.endswith(b"}") and more))


def _lines(path: Path) -> Iterator[Entry]:
    with _open(path) as file:
        position = 0
        for number in itertools.count(1):
            start = position
            line = rest = file.readline(MAX_LINE_BYTES + 1)
            position += len(line)
            if not line:
                return
            while len(line) > MAX_LINE_BYTES and rest and not rest.endswith(b"\n"):
                rest = file.readline(1 << 20)  # the rest of a line that is refused
                position += len(rest)
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                yield Entry(f"{path}:{number} (byte {start})", number, functools.partial(_parse_line, line))


def _parse_line(line: bytes) -> Any:
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"is longer than {MAX_LINE_BYTES >> 20} MiB")
    try:
        return parse_json(line)
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text (byte {error.start + 1} of the line)") from error
    except JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} (column {error.colno})") from error
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from error


def _elements(path: Path) -> Iterator[Entry]:
    value = load_document(path)
    if not isinstance(value, list):
        yield Entry(str(path), 1, lambda: value)
        return
    for number, element in enumerate(value, start=1):
        yield Entry(f"{path}, element {number}", number, functools.partial(lambda item: item, element))


# --- tables -------------------------------------------------------------------------------------------------------


def _rows(path: Path) -> Iterator[Entry]:
    number = itertools.count(1)
    for batch in _batches(path):
        for row in batch.to_pylist():
            n = next(number)
            yield Entry(f"{path}, row {n}", n, functools.partial(without_nulls, row))


def _batches(path: Path) -> Iterator[Any]:
    arrow = _package("pyarrow", path)
    try:
        if path.is_dir():
            for part in sorted(path.rglob("*.arrow")):
                yield from _batches(part)
        elif path.suffix == ".parquet":
            with _package("pyarrow.parquet", path).ParquetFile(path) as file:
                yield from file.iter_batches(batch_size=_ARROW_ROWS)
        else:
            with arrow.memory_map(str(path)) as source:
                for batch in arrow.ipc.open_stream(source):
                    for start in range(0, batch.num_rows, _ARROW_ROWS):
                        yield batch.slice(start, _ARROW_ROWS)
    except (arrow.ArrowException, OSError) as error:
        raise InputError(f"{path} is no Parquet or Arrow data: {str(error).splitlines()[0]}") from error


def without_nulls(value: Any) -> Any:
    """The value without members that are null: in a table every row has every field of every other row.

    Raises:
        ValueError: it holds something that JSON has no value for, such as bytes.
    """
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value) if hasattr(value, "isoformat") else _no_json(value)


def _no_json(value: Any) -> Any:
    raise ValueError(f"holds {type(value).__name__}, which is not JSON")
