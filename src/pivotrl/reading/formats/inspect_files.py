"""Files of inspect-ai's logs: a JSON document, or a zip of them. Their numbers need not be strict JSON."""

from __future__ import annotations

import functools
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.reading.fields import as_object
from pivotrl.reading.proportion import require_proportion
from pivotrl.reading.sources import MAX_DOCUMENT_BYTES, load_document
from pivotrl.reading.zip_files import unpacked
from pivotrl.records.strict_json import parse_json


def log_document(path: Path) -> dict[str, Any]:
    """A log of one JSON document, with its ``samples``.

    Raises:
        InputError: it cannot be read, or has no samples.
    """
    try:
        log = load_document(path)
    except InputError:
        if path.suffix != ".json" or not path.is_file() or path.stat().st_size > MAX_DOCUMENT_BYTES:
            raise
        try:
            log = _lenient(path.read_bytes())
        except ValueError as error:
            raise InputError(f"{path} is not JSON: {error}; mend it") from error
    if not isinstance(log, dict) or not isinstance(log.get("samples"), list):
        raise InputError(f"{path} is not a log of inspect-ai with samples; give one that has them")
    return log


def log_header(path: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    """What a packed log says of the whole evaluation; one that was broken off has only its beginning.

    Raises:
        InputError: it says nothing that can be read.
    """
    names = set(archive.namelist())
    name = next((name for name in ("header.json", "_journal/start.json") if name in names), None)
    if name is None:
        raise InputError(f"{path} is not a log of inspect-ai: it has no header.json; give one that does")
    try:
        return as_object(_unpacked(path, archive, name))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path}: {name}: {error}; get the log again") from error


def packed_samples(path: Path, archive: zipfile.ZipFile) -> Iterator[tuple[str, Callable[[], Any]]]:
    """(name, what unpacks it and raises ValueError when it is damaged) of each sample.

    Raises:
        InputError: all files together are out of proportion to the zip.
    """
    require_proportion(path, sum(info.file_size for info in archive.infolist()), "export it as .json")
    for name in dict.fromkeys(archive.namelist()):  # a name that was written twice means what was written last
        if name.startswith("samples/") and name.endswith(".json"):
            yield name, functools.partial(_unpacked, path, archive, name)


def _unpacked(path: Path, archive: zipfile.ZipFile, name: str) -> Any:
    return _lenient(unpacked(path, archive, name))


def _lenient(data: bytes) -> Any:
    """JSON in which NaN and infinities, which mark what is unscored, are null."""
    try:
        return parse_json(data)
    except ValueError:
        try:
            return parse_json(json.dumps(json.loads(data, parse_constant=lambda _: None)))
        except RecursionError:
            raise ValueError("is nested too deep") from None
