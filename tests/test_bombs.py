"""Small files that unpack to much, or say little at great length, are refused before they fill the machine."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from pivotrl.protocols import InputError
from pivotrl.readers.chat import read
from pivotrl.reading.proportion import MAX_RATIO
from pivotrl.reading.sources import entries
from pivotrl.reading.zip_files import unpacked
from pivotrl.records import Refusal

MIB = 1 << 20
BLANKS = b"\n" * (300 * MIB)
ROW = {"id": "a", "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "yes"}]}
LINE = json.dumps(ROW).encode() + b"\n"


def values(path: Path) -> list[object]:
    found = []
    for entry in entries(path):
        try:
            found.append(entry.load())
        except ValueError as error:
            found.append(error)
    return found


@pytest.mark.parametrize(
    ("name", "pack"), [("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", zstandard.ZstdCompressor().compress)]
)
@pytest.mark.parametrize("content", [BLANKS, b'"' + b"x" * (200 * MIB), b" " * (100 * MIB) + LINE], ids=len)
def test_a_packed_bomb_is_refused_with_its_name_and_a_way_out(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes], content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(pack(content))
    with pytest.raises(InputError, match=r"a\.jsonl\.\w+ (unpacks to more than 250 times|has over 1,000,000 blank)"):
        values(path)


def test_a_log_that_repeats_itself_is_read_whole_when_packed(tmp_path: Path) -> None:
    words = " ".join(f"{number**3 % 997}" for number in range(400))
    text = json.dumps({**ROW, "note": f"{words} and once more; " * 30}).encode() + b"\n"
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(text * 400))
    assert len(text) * 400 > 16 * MIB
    assert 100 < len(text) * 400 / path.stat().st_size < MAX_RATIO
    assert len(values(path)) == 400


def test_what_follows_a_bomb_is_refused_and_what_came_before_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINE + b"\n" * 2_000_000 + LINE)
    first, rest = values(path)
    assert first == ROW
    assert "has over 1,000,000 blank lines in a row; remove them" in str(rest)


def test_the_text_of_a_dictionary_is_held_once_not_once_a_row(tmp_path: Path) -> None:
    """A small file whose 64 rows would take 192 MiB together."""
    path = tmp_path / "a.parquet"
    texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0, 1] * 64), ["x" * (3 * MIB), "yes"])
    messages = pyarrow.StructArray.from_arrays([pyarrow.array(["user", "assistant"] * 64), texts], ["role", "content"])
    rows = pyarrow.ListArray.from_arrays(list(range(0, 130, 2)), messages)
    table = pyarrow.table({"messages": rows})
    pyarrow.parquet.write_table(table, path, compression="zstd", dictionary_pagesize_limit=64 * MIB)
    assert path.stat().st_size < 10_000
    code = f"""
import resource
from pathlib import Path
from pivotrl.readers.chat import read
import pyarrow.parquet, pyarrow.compute
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read_rows = sum(hasattr(found, "messages") for found in read(Path({str(path)!r})))
print(read_rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    num_rows, kibibytes = map(int, done.stdout.split())
    assert num_rows == 64
    assert kibibytes < 120 << 10


def test_a_table_out_of_proportion_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["x" * (40 * MIB)]}), path, compression="zstd")
    with pytest.raises(InputError, match="unpacks to more than 250 times its size"):
        values(path)


def test_a_row_larger_than_a_line_may_be_is_refused_alone(tmp_path: Path) -> None:
    """Its texts stand in a dictionary: what is small in the file is large in the row."""
    path = tmp_path / "a.parquet"
    large = {"id": "b", "texts": ["x" * MIB] * 100}
    small = {"id": "a", "texts": ["x"]}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([small, large, small]), path)
    first, second, third = values(path)
    assert (first, third) == (small, small)
    assert str(second) == "is larger than 64 MiB"


def test_a_bomb_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("samples/1.json", b" " * (100 * MIB))
        archive.writestr("samples/2.json", b'{"a": 1}')
    with zipfile.ZipFile(path) as archive:
        with pytest.raises(ValueError, match="unpacks to more than"):
            unpacked(path, archive, "samples/1.json")
        assert unpacked(path, archive, "samples/2.json") == b'{"a": 1}'


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 100_000, '{"messages":' + "[" * 50_000 + "]" * 50_000 + "}"])
def test_deep_nesting_is_a_refusal(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINE + text.encode() + b"\n" + LINE)
    first, second, third = read(path)
    assert isinstance(second, Refusal)
    assert first.id == third.id == "a"  # type: ignore[union-attr]
