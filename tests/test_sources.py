"""Files of every kind become values with their place; damage is named and the rest goes on."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from pivotrl.protocols import InputError
from pivotrl.reading.sources import MAX_DOCUMENT_BYTES, convert_entries, entries, head
from pivotrl.reading.tables import without_nulls
from pivotrl.records import Message, Refusal, Trajectory

ROWS = [{"a": 1}, {"b": "é"}, {"c": [None, 2.5]}]
TABLE = pyarrow.table({key: [row.get(key) for row in ROWS] for key in "abc"})
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def values(path: Path) -> list[Any]:
    return [entry.load() for entry in entries(path)]


def write_parquet(path: Path) -> None:
    pyarrow.parquet.write_table(TABLE, path)


def write_dataset(path: Path) -> None:
    """The files that Hugging Face's `Dataset.save_to_disk` leaves."""
    path.mkdir()
    file = str(path / "data-00000-of-00001.arrow")
    with pyarrow.OSFile(file, "wb") as sink, pyarrow.ipc.new_stream(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    (path / "dataset_info.json").write_text("{}")
    (path / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("log.jsonl", lambda path: path.write_bytes(LINES)),
        ("log.json", lambda path: path.write_text(json.dumps(ROWS))),
        ("log.traj", lambda path: path.write_text(json.dumps(ROWS, indent=2))),
        ("log.jsonl.gz", lambda path: path.write_bytes(gzip.compress(LINES))),
        ("log.json.gz", lambda path: path.write_bytes(gzip.compress(json.dumps(ROWS).encode()))),
        ("log.jsonl.zst", lambda path: path.write_bytes(zstandard.ZstdCompressor().compress(LINES))),
        ("bom.jsonl", lambda path: path.write_bytes(b"\xef\xbb\xbf" + LINES)),
        ("crlf.jsonl", lambda path: path.write_bytes(LINES.replace(b"\n", b"\r\n"))),
        ("rows.parquet", write_parquet),
        ("saved", write_dataset),
    ],
)
def test_every_kind_of_file_holds_the_same_values(name: str, write: Callable[[Path], Any], tmp_path: Path) -> None:
    write(tmp_path / name)
    assert [without_nulls(value) for value in values(tmp_path / name)] == [{"a": 1}, {"b": "é"}, {"c": [None, 2.5]}]


def test_a_saved_dataset_of_several_splits_is_read_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for split in ("train", "test"):
        write_dataset(tmp_path / "d" / split)
    (tmp_path / "d" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert len(values(tmp_path / "d")) == 6


def test_damaged_lines_are_refused_with_line_and_byte_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    good = b'{"text": "x"}\n'
    path.write_bytes(good + b'{"text": NaN}\n' + good + b'{"a": "\xff"}\n' + b"\n" + b'{"a": 1, "a": 1}\n' + good)

    def convert(value: Any, entry: Any) -> Trajectory:
        return Trajectory(id=str(entry.number), task_id="t", messages=(Message(role="user", content=value["text"]),))

    items = list(convert_entries(path, convert))
    assert [item.id for item in items if isinstance(item, Trajectory)] == ["1", "3", "7"]
    assert [(item.place, item.reason) for item in items if isinstance(item, Refusal)] == [
        (f"{path}:2 (byte 14)", "is not JSON: NaN is not JSON (column 10)"),
        (f"{path}:4 (byte 42)", "is not UTF-8 text (byte 8 of the line)"),
        (f"{path}:6 (byte 54)", "is not JSON: the key 'a' occurs twice (column 10)"),
    ]


def test_a_value_that_is_no_trajectory_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"role": "robot"}\n')
    (item,) = convert_entries(
        path,
        lambda value, _: Trajectory(id="1", task_id="t", messages=[{"role": value["role"]}]),  # type: ignore[list-item]
    )
    assert isinstance(item, Refusal) and item.reason.startswith("is not a trajectory: messages.0.role:")


def test_a_document_of_over_a_gigabyte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.write(b"[")
        file.truncate(MAX_DOCUMENT_BYTES + 2)
    with pytest.raises(InputError, match="make it JSON lines"):
        list(entries(path))


@pytest.mark.parametrize(
    ("name", "text", "number"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": 2}', 2),
        ("a.json", '{"a": 1}\n{"a": 2}', 2),
        ("a.jsonl", '[{"a": 1}]\n[{"a": 2}]', 2),
        ("a.jsonl", '[{"a": 1},\n{"a": 2}]', 2),
        ("a.json", '{"a": 1}', 1),
        ("a.json", '{"a":\n 1}', 1),
        ("a.traj", '{\n"a": 1\n}', 1),
        ("a.log", '\n\n[{"a": 1},\n {"a": 2}]', 2),
    ],
)
def test_lines_and_documents_are_told_apart(name: str, text: str, number: int, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert len(values(tmp_path / name)) == number


def test_the_head_skips_what_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{bad\n" + '{"a": 1}\n' * 50)
    assert head(tmp_path / "a.jsonl") == [{"a": 1}] * 20
