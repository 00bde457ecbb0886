"""Rows of Parquet and Arrow files, and of datasets that Hugging Face's library saved, as JSON values."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.protocols.errors import first_line
from pivotrl.reading.packages import package
from pivotrl.reading.proportion import require_proportion
from pivotrl.records.strict_json import parse_json

_ROWS = 64
"""Rows held in memory at once."""
_MAX_ROW_BYTES = 64 << 20
"""The same limit as for a line."""
_REMEDY = "save it again without compression"


def is_table(path: Path) -> bool:
    """Whether the path is a Parquet or Arrow file, or a saved dataset (one split or several)."""
    if path.is_dir():
        return any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json"))
    return path.suffix in (".parquet", ".arrow")


def rows(path: Path) -> Iterator[Callable[[], Any]]:
    """A function per row that returns it without nulls, or raises ValueError if it cannot be read.

    Raises:
        InputError: the path holds no such data, or less than it declares.
    """
    for file in _saved_files(path) if path.is_dir() else (path,):
        for batch in _batches(file):
            is_sound = _is_sound(batch)
            is_large = is_sound and sum(map(_num_bytes, batch.columns)) > _MAX_ROW_BYTES
            for index in range(batch.num_rows):
                yield functools.partial(_row, batch, index, is_sound, is_large)


def _batches(path: Path) -> Iterator[Any]:
    arrow = package("pyarrow", path)
    try:
        if path.suffix == ".parquet":
            parquet = package("pyarrow.parquet", path)
            about = parquet.read_metadata(path)
            groups = map(about.row_group, range(about.num_row_groups))
            require_proportion(path, sum(group.total_byte_size for group in groups), _REMEDY)
            # What stands in a dictionary is held once, not once a row.
            with parquet.ParquetFile(path, read_dictionary=_text_columns(about)) as file:
                _require_different(file.schema_arrow.names, path)
                yield from file.iter_batches(batch_size=_ROWS)
        else:
            with arrow.memory_map(str(path)) as source, arrow.ipc.open_stream(source) as stream:
                _require_different(stream.schema.names, path)
                for batch in stream:
                    require_proportion(path, batch.nbytes, _REMEDY)
                    for start in range(0, batch.num_rows, _ROWS):
                        yield batch.slice(start, _ROWS)
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not Parquet or Arrow data, or is damaged: {first_line(error)}") from error


def _text_columns(about: Any) -> list[str]:
    columns = (about.schema.column(index) for index in range(about.num_columns))
    return [c.path for c in columns if c.physical_type == "BYTE_ARRAY" and c.logical_type.type in ("STRING", "NONE")]


def _require_different(names: list[str], path: Path) -> None:
    if len(set(names)) < len(names):
        raise InputError(f"{path} has two columns with the same name ({', '.join(names)}); rename one")


def _saved_files(directory: Path) -> Iterator[Path]:
    """The Arrow files of a saved dataset, split after split, in their order.

    Raises:
        InputError: the next one is not there.
    """
    splits = _listed(directory / "dataset_dict.json", "splits")
    if splits is not None:
        for split in splits:
            yield from _saved_files(directory / _inside(directory, split))
        return
    parts = _listed(directory / "state.json", "_data_files")
    if parts is None:  # the library's cache has none
        files = sorted(directory.glob("*.arrow"))
    else:
        named = [part.get("filename") if isinstance(part, dict) else None for part in parts]
        files = [directory / _inside(directory, name) for name in named]
    for file in files:
        if not file.is_file():
            raise InputError(f"{directory} lacks {file.name}; save the dataset again")
        yield file
    if not files:
        raise InputError(f"{directory} lacks its .arrow files; save the dataset again")


def _listed(path: Path, key: str) -> list[Any] | None:
    """A list in a JSON file, None without the file."""
    if not path.is_file():
        return None
    try:
        value = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}; save the dataset again") from error
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise InputError(f"{path} has no list of {key}; save the dataset again")
    return found


def _inside(directory: Path, name: Any) -> str:
    if not isinstance(name, str) or Path(name).name != name:
        raise InputError(f"{directory} names a part {name!r}, which is not a file in it; save the dataset again")
    return name


# --- rows ---------------------------------------------------------------------------------------------------------


def _is_sound(batch: Any) -> bool:
    """Whether it is safe to follow: a damaged file may point anywhere and crash the process."""
    try:
        batch.validate(full=True)
    except ValueError:
        return False
    return True


def _row(batch: Any, index: int, is_sound: bool, is_large: bool) -> Any:
    one = batch.slice(index, 1)
    if is_large and sum(map(_num_bytes, one.columns)) > _MAX_ROW_BYTES:
        raise ValueError(f"is larger than {_MAX_ROW_BYTES >> 20} MiB")
    try:
        if not is_sound:
            one.validate(full=True)
        (row,) = one.to_pylist()
    except (ValueError, OverflowError) as error:  # such as text that is not UTF-8, or dates that Python cannot hold
        raise ValueError(f"cannot be read: {first_line(error)}") from error
    return without_nulls(row)


def _num_bytes(array: Any) -> int:
    """The size of the array with the texts of a dictionary written out."""
    if hasattr(array, "dictionary"):
        compute = importlib.import_module("pyarrow.compute")
        return int(compute.sum(compute.binary_length(array.dictionary).take(array.indices)).as_py() or 0)
    if hasattr(array, "flatten") and array.type.num_fields:  # lists and structs
        parts = array.flatten()
        return sum(map(_num_bytes, parts)) if isinstance(parts, list) else _num_bytes(parts)
    return int(array.nbytes)


def without_nulls(value: Any) -> Any:
    """The value without members that are null or NaN: in a table every row has every field of every other row.

    Raises:
        ValueError: it holds something that JSON has no value for, such as bytes.
    """
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if not _is_missing(item)}
    if isinstance(value, list):
        return [None if _is_missing(item) else without_nulls(item) for item in value]
    if isinstance(value, float) and abs(value) == float("inf"):
        raise ValueError("holds an infinite number, which is not JSON")
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if hasattr(value, "isoformat"):
        return str(value)
    raise ValueError(f"holds {type(value).__name__}, which is not JSON")


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)
