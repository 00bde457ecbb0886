"""Files of logs as JSON values, each with its place: JSON lines, JSON documents, Parquet, Arrow; plain, .gz or .zst.

Lines are read one at a time, so memory does not grow with the file; a document (one JSON value for the whole file) is
held as a whole. What cannot be read becomes a :class:`~pivotrl.records.Refusal` that names file, line and byte, and
the rest goes on.
"""

from __future__ import annotations

import codecs
import functools
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pivotrl.protocols import InputError
from pivotrl.reading.compressed import opened
from pivotrl.reading.tables import is_table, rows
from pivotrl.records import Refusal, Trajectory
from pivotrl.records.strict_json import parse_json
from pivotrl.storage.record_files import validation_message

MAX_LINE_BYTES = 64 << 20
MAX_DOCUMENT_BYTES = 1 << 30
"""A document is held in memory as a whole, lines are not."""
_MAX_BLANK_LINES = 1_000_000
"""Limit on consecutive blank lines: a file of nothing else would take hours."""
_HEAD = 20
_MAX_REASON = 400
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Entry:
    """One value of a file."""

    place: str
    """``runs.jsonl:17 (byte 5210)``, or ``runs.json, element 3``."""
    number: int
    """Line, element or row, from 1."""
    load: Callable[[], Any]
    """Parses the value. Raises ValueError with the fault, such as ``is not JSON: ...``."""


def entries(path: Path) -> Iterator[Entry]:
    """The values of a file: lines, elements of an array, rows of a table, or the one value of a document.

    If a file is damaged or cut off after some values, the last entry represents the rest and fails to load.

    Raises:
        InputError: the file is missing, empty, no regular file, of an unknown kind, or a document that is not JSON.
    """
    require_utf8(path)
    if is_table(path):
        unit, found = "row", _rows(path)
    elif _is_document(path):
        unit, found = "element", _elements(path)
    else:
        unit, found = "line", _lines(path)
    number = 0
    try:
        for entry in found:
            number = entry.number
            yield entry
    except InputError as error:
        if not number:
            raise
        fault = str(error).removeprefix(f"{path} ")
        yield Entry(f"{path}, after {unit} {number}", number + 1, functools.partial(_refuse, fault))
    if not number:
        raise InputError(f"{path} contains no {unit} with a value; give a log with at least one trajectory")


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
    with opened(path) as file:
        data = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        raise InputError(f"{path} is one document of over {MAX_DOCUMENT_BYTES >> 30} GiB; make it JSON lines")
    try:
        return parse_json(data.removeprefix(codecs.BOM_UTF8))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start + 1}); convert it") from error
    except JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno} is not JSON: {error.msg} (column {error.colno}); fix it") from error


def any_of_first(files: Sequence[Path], is_known: Callable[[Any], bool]) -> bool:
    """Whether one of the first files is a document of that kind; a single one may be damaged."""
    for file in files[:3]:
        with suppress(InputError):
            if is_known(load_document(file)):
                return True
    return False


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
    """A value that is not a trajectory; the reason is one line of bounded length."""
    reason = validation_message(error) if isinstance(error, ValidationError) else str(error)
    line = " ".join(reason.split())
    return Refusal(place=place, reason=f"is not a trajectory: {line[:_MAX_REASON]}")


_PLACE = re.compile(r"(?P<line>(?::\d+)?(?: \(byte \d+\))?(?:, \w+ \d+)?):? (?P<reason>.*)", re.DOTALL)


def file_refusal(path: Path, error: Exception) -> Refusal:
    """One file of several that cannot be read, with the error."""
    place = printable(path)
    found = _PLACE.fullmatch(str(error).removeprefix(place))
    line, reason = (found["line"], found["reason"]) if found else ("", str(error))
    return Refusal(place=f"{place}{line}", reason=reason)


# --- lines and documents ------------------------------------------------------------------------------------------


def _is_document(path: Path) -> bool:
    """Told by the first line that is not blank: an array, an opening brace alone, or half of an object."""
    with opened(path) as file:
        line = b"\n"
        for number in itertools.count():
            if not line or line.strip():
                break
            _require_few_blanks(path, number)
            line = file.readline(MAX_LINE_BYTES + 1)
        more = bool(file.read(1))
    if line.startswith(_UTF16):
        raise InputError(f"{path} is UTF-16 or UTF-32 text; convert it to UTF-8")
    line = line.removeprefix(codecs.BOM_UTF8).strip()
    is_lines = [suffix for suffix in path.suffixes if suffix not in (".gz", ".zst")][-1:] == [".jsonl"]
    if line.startswith(b"["):
        return not (is_lines and line.endswith(b"]") and more)
    return line == b"{" or not (is_lines or (line.endswith(b"}") and more))


def _lines(path: Path) -> Iterator[Entry]:
    with opened(path) as file:
        position = num_blank = 0
        for number in itertools.count(1):
            _require_few_blanks(path, num_blank)
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
            is_long = len(line) > MAX_LINE_BYTES
            line = line.rstrip()
            num_blank = 0 if line else num_blank + 1
            if line:
                yield Entry(f"{path}:{number} (byte {start})", number, functools.partial(_parse_line, line, is_long))


def _require_few_blanks(path: Path, number: int) -> None:
    if number > _MAX_BLANK_LINES:
        raise InputError(f"{path} has over {_MAX_BLANK_LINES:,} blank lines in a row; remove them")


def _parse_line(line: bytes, is_long: bool) -> Any:
    if is_long:
        raise ValueError(f"is longer than {MAX_LINE_BYTES >> 20} MiB")
    try:
        return parse_json(line)
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text (byte {error.start + 1} of the line)") from error
    except JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} (column {error.colno})") from error


def _refuse(fault: str) -> None:
    raise ValueError(fault)


def _elements(path: Path) -> Iterator[Entry]:
    value = load_document(path)
    if not isinstance(value, list):
        yield Entry(str(path), 1, lambda: value)
        return
    for number, element in enumerate(value, start=1):
        yield Entry(f"{path}, element {number}", number, functools.partial(lambda item: item, element))


def _rows(path: Path) -> Iterator[Entry]:
    for number, load in enumerate(rows(path), start=1):
        yield Entry(f"{path}, row {number}", number, load)


def require_utf8(path: Path) -> None:
    """Names and places go into files of UTF-8.

    Raises:
        InputError: the path's name is not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(f"{printable(path)} has a name that is not UTF-8; rename it") from None


def printable(path: Path) -> str:
    """The path, with the bytes of its name that are not UTF-8 written as escapes."""
    return os.fsencode(path).decode(errors="backslashreplace")
