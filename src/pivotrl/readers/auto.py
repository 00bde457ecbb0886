"""Any log, recognised by content: a file, or a directory of files that may differ in format."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from reprlib import repr as short
from types import ModuleType
from typing import Any

from pivotrl import plugins
from pivotrl.protocols import InputError
from pivotrl.reading.incomplete_formats import incomplete
from pivotrl.reading.nearest_format import WOULD_BE_READ, nearest
from pivotrl.reading.sources import entries, file_refusal, head, printable, require_utf8
from pivotrl.reading.tables import is_table
from pivotrl.records import Refusal, Trajectory
from pivotrl.records.strict_json import kind_of


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """The trajectories of a file, or of every file below a directory, in order of names.

    The format's name goes into ``metadata["format"]``. In a directory, files that no reader recognises and links that
    lead out of it are refused, and the rest is read; hidden files are skipped.

    Raises:
        InputError: the path is one file that cannot be read or that no reader, or more than one, recognises; the
            directory holds no file.
    """
    if path.is_dir() and (fault := _fault_of(path)) is not None:
        raise InputError(f"{path} {fault}")
    if not path.is_dir() or is_table(path) or _claimed(path):
        yield from _read_one(path)
        return
    num_found = 0
    for unit in _units(path):
        num_found += 1
        if isinstance(unit, Refusal):
            yield unit
            continue
        try:
            yield from _read_one(unit)
        except InputError as error:
            yield file_refusal(unit, error)
    if not num_found:
        raise InputError(f"{path} contains no file; give a log, or a directory with logs")


def format_of(path: Path) -> str:
    """The name of the reader that knows this file or directory.

    Raises:
        InputError: it cannot be read, or no reader, or more than one, recognises it.
    """
    if names := _claimed(path):
        return _only(path, names)
    values = head(path)
    if not values:
        raise InputError(f"{_first_fault(path)}; no value of the file can be read")
    names = [name for name, module in _modules("recognises") if module.recognises(values)]
    names = names or [name for name, module in _modules("resembles") if module.resembles(values)]
    if not names and (known := incomplete(values)):
        raise InputError(f"{path} is {known.what} and cannot be read: {known.why}")
    if not names:
        raise InputError(
            f"{path} is in an unknown format: {_looks(values[0])}; {WOULD_BE_READ} would be read; "
            f"{_why_not_nearest(path, values)}docs/formats.md shows each format, and --reader names one"
        )
    return _only(path, names)


def _read_one(path: Path) -> Iterator[Trajectory | Refusal]:
    require_utf8(path)
    name = format_of(path)
    for item in plugins.find("readers", name)(path):
        if isinstance(item, Trajectory):
            item = item.model_copy(update={"metadata": {"format": name, **item.metadata}})
        yield item


def _only(path: Path, names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    raise InputError(f"{path} could be {' or '.join(names)}; name one with --reader")


def _why_not_nearest(path: Path, values: list[Any]) -> str:
    """Why the reader of the nearest format refuses it."""
    name = nearest(values)
    if name is None or name not in plugins.names("readers"):
        return ""
    try:
        item = next(iter(plugins.find("readers", name)(path)), None)
    except InputError as error:
        return f"nearest is {name}: {error}; "
    why = item.reason if isinstance(item, Refusal) else "most of the file is something else"
    return f"nearest is {name}, but the first entry {why.removesuffix('.')}; "


def _looks(value: Any) -> str:
    """A short description of an unrecognised value."""
    if isinstance(value, dict):
        keys = ", ".join(map(short, list(value)[:8]))
        return f"its first object has the keys {keys}" if value else "its first object is empty"
    return f"its first value is {kind_of(value)}"


def _first_fault(path: Path) -> str:
    for entry in entries(path):
        try:
            entry.load()
        except ValueError as error:
            return f"{entry.place} {error}"
    return f"{path} is empty"


def _claimed(path: Path) -> list[str]:
    return [name for name, module in _modules("claims") if module.claims(path)]


@functools.cache
def _modules(question: str) -> tuple[tuple[str, ModuleType], ...]:
    """The readers that define this function and whose packages are installed."""
    found = []
    for name in filter(functools.partial(_mentions, question), plugins.names("readers")):
        try:
            module = sys.modules[plugins.find("readers", name).__module__]
        except InputError:
            continue
        if hasattr(module, question):
            found.append((name, module))
    return tuple(found)


def _mentions(question: str, name: str) -> bool:
    """Whether the reader may define the function. Readers that play games import large packages, which no log needs."""
    spec = importlib.util.find_spec(f"pivotrl.readers.{name}")
    return spec is None or spec.origin is None or question.encode() in Path(spec.origin).read_bytes()


def _units(directory: Path) -> Iterator[Path | Refusal]:
    """The contents of a directory: files, directories that are one log, and refusals for everything else."""
    root = directory.resolve()
    for path in sorted(directory.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_symlink() and not _leads_into(path, root):
            yield Refusal(place=printable(path), reason="is a link that leads out of the directory, or nowhere")
        elif path.is_dir() and (fault := _fault_of(path)) is not None:
            yield Refusal(place=printable(path), reason=fault)
        elif path.is_dir() and not path.is_symlink() and not is_table(path) and not _claimed(path):
            yield from _units(path)
        else:
            yield path


def _fault_of(directory: Path) -> str | None:
    """Why a directory cannot be listed; None if it can."""
    try:
        for path in directory.iterdir():
            path.lstat()
            break
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return None


def _leads_into(link: Path, root: Path) -> bool:
    try:
        return link.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):  # it leads nowhere, or back to itself
        return False
