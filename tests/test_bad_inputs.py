"""Bad input of every kind and format: the fault is named with its place, the rest is read, nothing is lost.

Each input is imported twice with the command that users call: in a directory beside a good log, where the format is
told by the content, and alone, with the reader named.
"""

from __future__ import annotations

import gzip
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from bad_files import FILES, MANY, TABLE, BadFile, arrow, parquet
from bad_rows import GOOD, LINES, READ_ALL_THE_SAME, ROWS, encoded
from bad_sessions import SESSIONS
from pivotrl.cli import main
from pivotrl.protocols import InputError
from pivotrl.readers import chat
from pivotrl.reading.sources import printable
from pivotrl.records import Refusal, Trajectory
from pivotrl.runs.manifest import read_manifest
from pivotrl.storage.record_files import read_records

Capture = pytest.CaptureFixture[str]
BESIDE = b'{"messages": [{"role": "user", "content": "beside"}, {"role": "assistant", "content": "yes"}]}\n'


def imported(source: Path, run: Path, reader: str, capsys: Capture) -> tuple[int, str, list[Trajectory], list[Refusal]]:
    """(exit code, what stderr tells, what was kept, what was refused)"""
    options = ["--reader", reader, "--heldout-fraction", "0", "--min-reward", "None", "--duplicates", "keep"]
    try:
        main(["read", str(source), "-o", str(run), *options])
        code = 0
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    told = capsys.readouterr().err
    assert "Traceback" not in told
    if code in (0, 5):
        kept = read_records(run / "trajectories.jsonl", Trajectory)
        refused = read_records(run / "refused.jsonl", Refusal) if code else []
        counts = read_manifest(run / "read.manifest.json").counts
        assert (counts["read"], counts["refused"]) == (len(kept), len(refused)), "something was lost"
        assert all("\n" not in item.reason and len(item.reason) < 500 for item in refused)
        return code, told, kept, refused
    return code, told, [], []


def test_there_are_enough_of_them() -> None:
    names = [
        *(f"line {name}" for name, *_ in LINES),
        *(f"{reader} {name}" for reader, name, *_ in ROWS),
        *(f"odd {name}" for name, *_ in READ_ALL_THE_SAME),
        *(f"file {file.name}" for file in FILES + SESSIONS),
    ]
    assert len(names) == len(set(names)) >= 80


# --- one bad record among good ones -------------------------------------------------------------------------------

BAD_ROWS = [("chat", name, line, reason) for name, line, reason in LINES] + ROWS


@pytest.mark.parametrize(
    ("reader", "row", "reason"),
    [(reader, row, reason) for reader, _, row, reason in BAD_ROWS],
    ids=[f"{reader}-{name}" for reader, name, *_ in BAD_ROWS],
)
def test_a_bad_record_is_refused_and_the_others_are_read(
    reader: str, row: Any, reason: str, tmp_path: Path, capsys: Capture
) -> None:
    good = encoded(GOOD[reader]())
    path = tmp_path / "logs" / "log.jsonl"
    path.parent.mkdir()
    path.write_bytes(good + b"\n" + encoded(row) + b"\n" + good + b"\n")
    (path.parent / "beside.jsonl").write_bytes(BESIDE)
    for source, name, num_kept in ((path.parent, "auto", 3), (path, reader, 2)):
        code, _, kept, refused = imported(source, tmp_path / name, name, capsys)
        assert (code, len(kept)) == (5, num_kept)
        assert [item.place for item in refused] == [f"{path}:2 (byte {len(good) + 1})"]
        assert reason in refused[0].reason


@pytest.mark.parametrize(
    ("row", "losses", "excluded"),
    [(row, losses, excluded) for _, row, losses, excluded in READ_ALL_THE_SAME],
    ids=[name for name, *_ in READ_ALL_THE_SAME],
)
def test_what_can_still_be_read_is_read_and_what_is_wrong_is_told(
    row: Any, losses: list[str], excluded: dict[int, str], tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "log.jsonl").write_bytes(encoded(row))
    code, _, kept, _ = imported(tmp_path / "log.jsonl", tmp_path / "run", "chat", capsys)
    assert code == 0
    of_every_row = {"system_missing", "reward_unknown", "tools_missing", "tools_inferred"}
    assert [loss.code for loss in kept[0].losses if loss.code not in of_every_row] == losses
    assert kept[0].excluded == excluded


# --- files --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that may be entered without being root."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("bad", FILES + SESSIONS, ids=[bad.name for bad in FILES + SESSIONS])
def test_a_bad_file_is_named_and_the_others_are_read(bad: BadFile, folder: Path, capsys: Capture) -> None:
    logs = folder / "logs"
    logs.mkdir()
    path = bad.write(logs)
    (logs / "a_beside.jsonl").write_bytes(BESIDE)
    if os.geteuid() == 0 and bad.needs_permission:
        os.seteuid(65534)
    try:
        code, _, kept, refused = imported(logs, folder / "auto", "auto", capsys)
        assert (code, len(kept)) == (5, 1 + bad.num_kept)
        assert [item.place for item in refused] == [bad.place.format(printable(path))]
        assert bad.reason in refused[0].reason
        code, told, kept, refused = imported(path, folder / "alone", bad.reader, capsys)
        assert (code, len(kept)) == (5 if bad.num_kept else 2, bad.num_kept)
        assert (bad.alone or bad.reason) in (refused[0].reason if refused else told.splitlines()[-1])
    finally:
        if os.getuid() == 0:
            os.seteuid(0)


SPOILT = {
    "a.parquet": parquet(TABLE.slice(0, 6), compression="none"),
    "b.parquet": parquet(TABLE.slice(0, 6)),
    "c.arrow": arrow(TABLE.slice(0, 6), 2),
    "d.jsonl.gz": gzip.compress(MANY[:5000], mtime=0),
    "e.jsonl.zst": zstandard.ZstdCompressor().compress(MANY[:5000]),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_file_neither_raises_nor_ends_the_process(name: str, tmp_path: Path) -> None:
    """Some of these ended it with a bus error, for the offsets of a table may point anywhere."""
    generator = random.Random(name)
    outcomes = Counter[str]()
    for number in range(150):
        data = bytearray(SPOILT[name])
        for _ in range(generator.randrange(1, 4)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        path = tmp_path / f"{number}{name}"
        path.write_bytes(data[: generator.randrange(1, len(data))] if generator.random() < 0.2 else data)
        try:
            outcomes.update(type(item).__name__ for item in chat.read(path))
        except InputError as error:
            assert "\n" not in str(error)
            outcomes["error"] += 1
    assert outcomes["Trajectory"] > 100 and outcomes["Refusal"] > 10 and outcomes["error"] > 10, outcomes
