"""Files and directories that cannot be read, or not to their end: how each is made, and what must be said about it."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import zstandard

from bad_rows import ANSWER, USER, chat, encoded


@dataclass(frozen=True)
class BadFile:
    name: str
    write: Callable[[Path], Path]
    """Makes it in a folder; returns its path."""
    reason: str
    """Part of what is told when it lies in a directory with others."""
    place: str = "{0}"
    num_kept: int = 0
    """Trajectories in it that are read."""
    reader: str = "chat"
    """That is named when it is read alone."""
    alone: str = ""
    """Part of what is told then, where it differs."""
    needs_permission: bool = False


ROW = encoded(chat(USER, ANSWER))
LINES = (ROW + b"\n") * 3
RANDOM = random.Random(0)
ROWS = [{"messages": [USER, {**ANSWER, "content": RANDOM.randbytes(400).hex()}], "note": "x"} for _ in range(200)]
MANY = b"".join(encoded(row) + b"\n" for row in ROWS)
GZIP, ZSTD = gzip.compress(MANY, 0, mtime=0), zstandard.ZstdCompressor(write_checksum=True).compress(MANY)


def put(name: str, data: bytes, folder: Path) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def bad(name: str, file: str, data: bytes, reason: str, place: str = "{0}", **more: Any) -> BadFile:
    return BadFile(name, partial(put, file, data), reason, place, **more)


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes(255 - byte for byte in data[place : place + 8]) + data[place + 8 :]


# --- tables -------------------------------------------------------------------------------------------------------


def parquet(table: Any, **options: Any) -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, **options)
    return bytes(sink.getvalue())


def arrow(table: Any, max_rows: int = 50) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=max_rows)
    return bytes(sink.getvalue())


TABLE = pyarrow.Table.from_pylist(ROWS)
PARQUET = parquet(TABLE, row_group_size=50, compression="none")
NOT_UTF8 = pyarrow.Array.from_buffers(
    pyarrow.string(), 1, [None, pyarrow.py_buffer(b"\0\0\0\0\2\0\0\0"), pyarrow.py_buffer(b"\xff\xfe")]
)
PAIR = pyarrow.Table.from_pylist([chat(USER, ANSWER, image=b"\x89PNG"), chat(USER, ANSWER)])


def saved(folder: Path, *parts: str, written: tuple[str, ...] = ("a.arrow", "b.arrow"), state: str = "") -> Path:
    """A dataset as Hugging Face's library saves it: it says of which files it is made."""
    path = folder / "saved"
    path.mkdir()
    for name in written:
        (path / name).write_bytes(arrow(TABLE.slice(0, 2)))
    (path / "dataset_info.json").write_text("{}")
    (path / "state.json").write_text(state or json.dumps({"_data_files": [{"filename": name} for name in parts]}))
    return path


def saved_splits(folder: Path) -> Path:
    path = folder / "splits"
    path.mkdir()
    (path / "dataset_dict.json").write_text('{"splits": ["test", "train"]}')
    saved(path, "a.arrow").rename(path / "test")
    return path


# --- paths --------------------------------------------------------------------------------------------------------


def linked(target: str, folder: Path) -> Path:
    path = folder / "link.jsonl"
    path.symlink_to(target)
    return path


def linked_outside(folder: Path) -> Path:
    return linked(str(put("outside.jsonl", b"", folder.parent)), folder)


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.jsonl")
    return folder / "pipe.jsonl"


def forbidden(folder: Path) -> Path:
    path = put("secret.jsonl", LINES, folder)
    path.chmod(0)
    return path


def forbidden_folder(folder: Path) -> Path:
    path = folder / "closed"
    path.mkdir()
    path.chmod(0)
    return path


def named_in_latin_1(folder: Path) -> Path:
    path = os.fsencode(folder) + b"/caf\xe9.jsonl"
    Path(os.fsdecode(path)).write_bytes(LINES)
    return Path(os.fsdecode(path))


def very_long_line(folder: Path) -> Path:
    path = folder / "long.jsonl"
    with path.open("wb") as file:
        file.write(ROW + b'\n{"messages": "')
        file.seek(70 << 20, os.SEEK_CUR)
        file.write(b'"}\n' + ROW + b"\n")
    return path


FILES: list[BadFile] = [
    # compressed
    bad(
        "gzip_cut_off",
        "a.jsonl.gz",
        GZIP[: len(GZIP) // 2],
        "is a damaged gzip file: ",
        "{0}, after line 99",
        num_kept=99,
    ),
    bad(
        "gzip_without_its_end", "a.jsonl.gz", gzip.compress(LINES)[:-5], "damaged gzip", "{0}, after line 3", num_kept=3
    ),
    bad("gzip_header_only", "a.jsonl.gz", GZIP[:10], "is a damaged gzip file: "),
    bad(
        "gzip_with_more_behind",
        "a.jsonl.gz",
        gzip.compress(LINES) + b"x",
        "damaged gzip",
        "{0}, after line 3",
        num_kept=3,
    ),
    bad("gzip_spoilt", "a.jsonl.gz", flipped(GZIP, 12), "is a damaged gzip file: "),
    bad("not_gzip", "a.jsonl.gz", LINES, "is a damaged gzip file: Not a gzipped file"),
    bad("gzip_of_nothing", "a.jsonl.gz", gzip.compress(b""), "contains no line with a value"),
    bad("zstd_cut_off", "a.jsonl.zst", ZSTD[: len(ZSTD) // 2], "is a damaged zstd file: it ends in the middle"),
    bad("zstd_without_its_end", "a.jsonl.zst", ZSTD[:-1], "it ends in the middle", "{0}, after line 200", num_kept=200),
    bad(
        *("zstd_second_frame_cut_off", "a.jsonl.zst"),
        *(ZSTD + ZSTD[:50], "it ends in the middle", "{0}, after line 200"),
        num_kept=200,
    ),
    bad("not_zstd", "a.jsonl.zst", LINES, "is a damaged zstd file: "),
    bad("not_compressed_as_it_says", "a.jsonl", gzip.compress(MANY), "is not UTF-8 text", "{0}:1 (byte 0)"),
    bad("bzip2", "a.jsonl", bz2.compress(LINES), "is not UTF-8 text", "{0}:1 (byte 0)"),
    # tables
    bad("parquet_cut_off", "a.parquet", PARQUET[: len(PARQUET) // 2], "is not Parquet or Arrow data, or is damaged"),
    bad("parquet_header_only", "a.parquet", b"PAR1", "is not Parquet or Arrow data, or is damaged"),
    bad("not_parquet", "a.parquet", LINES, "is not Parquet or Arrow data, or is damaged"),
    bad("parquet_empty", "a.parquet", b"", "is not Parquet or Arrow data, or is damaged"),
    bad("parquet_without_rows", "a.parquet", parquet(TABLE.slice(0, 0)), "contains no row with a value"),
    bad("parquet_with_bytes", "a.parquet", parquet(PAIR), "holds bytes, which is not JSON", "{0}, row 1", num_kept=1),
    bad(
        "arrow_cut_off", "a.arrow", arrow(TABLE)[:-20_000], "Parquet or Arrow data", "{0}, after row 150", num_kept=150
    ),
    bad("not_arrow", "a.arrow", LINES, "is not Parquet or Arrow data, or is damaged"),
    bad(
        *("arrow_columns_of_one_name", "a.arrow"),
        *(arrow(pyarrow.table([["x"], ["y"]], names=["id", "id"])), "has two columns with the same name (id, id)"),
    ),
    bad(
        *("arrow_text_not_utf8", "a.arrow"),
        *(arrow(pyarrow.table([NOT_UTF8], names=["prompt"])), "cannot be read: In column 0: ", "{0}, row 1"),
    ),
    BadFile("dataset_without_arrow_files", partial(saved, written=()), "lacks its .arrow files"),
    BadFile(
        "dataset_lacks_a_part",
        lambda folder: saved(folder, "a.arrow", "b.arrow", written=("a.arrow",)),
        "lacks b.arrow; save the dataset again",
        "{0}, after row 2",
        num_kept=2,
    ),
    BadFile("dataset_state_not_json", partial(saved, state="{"), "state.json cannot be read: "),
    BadFile("dataset_state_of_another_kind", partial(saved, state="[]"), "state.json has no list of _data_files"),
    BadFile("dataset_part_outside", lambda folder: saved(folder, "../a.arrow"), "names a part '../a.arrow'"),
    BadFile("dataset_lacks_a_split", saved_splits, "lacks its .arrow files", "{0}, after row 2", num_kept=2),
    # text
    bad("empty", "a.jsonl", b"", "is empty; give a log with at least one trajectory"),
    bad("blank_lines_only", "a.jsonl", b"\n \n\r\n\t\n", "contains no line with a value"),
    bad("nothing_but_nul", "a.jsonl", b"\0" * 5000, "is not JSON", "{0}:1 (byte 0)"),
    bad("utf16", "a.jsonl", LINES.decode().encode("utf-16"), "is UTF-16 or UTF-32 text; convert it"),
    bad("utf16_big_endian", "a.json", b"\xfe\xff" + LINES.decode().encode("utf-16-be"), "is UTF-16 or UTF-32 text"),
    bad("utf16_without_mark", "a.jsonl", LINES.decode().encode("utf-16-le"), "is not JSON", "{0}:1 (byte 0)"),
    bad("utf32", "a.jsonl", LINES.decode().encode("utf-32"), "is UTF-16 or UTF-32 text"),
    bad("latin_1_document", "a.json", b'{"messages":\n "\xff"}', "is not UTF-8 text (byte 16)"),
    bad("picture", "a.jsonl", b"\x89PNG\r\n\x1a\n" + RANDOM.randbytes(2000), "is not UTF-8 text", "{0}:1 (byte 0)"),
    bad("web_page", "a.jsonl", b"<!DOCTYPE html>\n<html>\n</html>\n", "is not JSON: Expecting value", "{0}:1 (byte 0)"),
    bad("table_of_commas", "a.csv", b"id,messages\n1,[]\n", "is not JSON: Expecting value", "{0}:1"),
    bad(
        "pointer_to_large_file",
        "a.jsonl",
        b"version https://git-lfs.github.com/spec/v1\n",
        "is not JSON: Expecting",
        "{0}:1 (byte 0)",
    ),
    bad("last_line_cut_off", "a.jsonl", LINES + ROW[:-9], "is not JSON", "{0}:4 (byte 279)", num_kept=3),
    bad("first_line_cut_off", "a.jsonl", ROW[9:] + b"\n" + LINES, "is not JSON: Exp", "{0}:1 (byte 0)", num_kept=3),
    bad("mac_line_ends", "a.jsonl", LINES.replace(b"\n", b"\r"), "is not JSON: Extra data", "{0}:1 (byte 0)"),
    bad("document_cut_off", "a.json", json.dumps(ROWS, indent=1).encode()[:-9], "is not JSON: Expecting", "{0}:2600"),
    bad("document_with_a_comma_more", "a.json", b"[" + ROW + b",]", "is not JSON: ", "{0}:1"),
    bad(
        "documents_in_a_row", "a.json", json.dumps(ROWS[0], indent=1).encode() * 2, "is not JSON: Extra data", "{0}:13"
    ),
    bad("document_nan", "a.json", b'[\n{"messages": [], "reward": NaN}\n]', "NaN is not JSON (column 28)", "{0}:2"),
    bad(
        "document_duplicate_key",
        "a.json",
        b'[\n{"id": 1, "id": 2}\n]',
        "the key 'id' occurs twice (column 11)",
        "{0}:2",
    ),
    bad("document_deep", "a.json", b"[" * 200_000, "nested deeper than 100 levels (column 101)", "{0}:1"),
    bad("document_number", "a.json", b"17", "its first value is number", alone="expected an object, not number"),
    bad("document_empty_array", "a.json", b"[]", "contains no element with a value"),
    bad("document_empty_object", "a.json", b"{}", "its first object is empty", alone="messages is missing"),
    bad("unknown_keys", "a.jsonl", b'{"colour": "blue"}\n', "the keys 'colour'", alone="messages is missing"),
    BadFile("line_of_70_mib", very_long_line, "is longer than 64 MiB", "{0}:2 (byte 93)", num_kept=2),
    # paths
    BadFile("link_to_nothing", partial(linked, "nowhere"), "is a link that leads out", alone="does not exist"),
    BadFile("link_to_itself", partial(linked, "link.jsonl"), "is a link that leads out", alone="does not exist"),
    BadFile("link_that_leads_out", linked_outside, "is a link that leads out of the directory", alone="is empty"),
    BadFile("pipe", pipe, "is no regular file"),
    BadFile("may_not_be_read", forbidden, "cannot be read: Permission denied", needs_permission=True),
    BadFile("folder_may_not_be_read", forbidden_folder, "Permission denied", needs_permission=True, reader="auto"),
    BadFile("name_not_utf8", named_in_latin_1, "has a name that is not UTF-8; rename it"),
]
