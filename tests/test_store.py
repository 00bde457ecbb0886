"""What was bought is never lost, never bought twice, and damage is never read as data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pivotrl.protocols import InputError, Notice
from pivotrl.records import (
    SCHEMA_VERSION,
    Action,
    Completion,
    EpisodeResult,
    Manifest,
    SampleGroup,
    SkippedTurn,
    Verdict,
)
from pivotrl.runs.directory import starting_in
from pivotrl.runs.files import RunFiles
from pivotrl.runs.lock import RunLock
from pivotrl.runs.manifest import manifest_path, read_manifest, write_manifest
from pivotrl.runs.replacing import move_aside
from pivotrl.runs.stage import Stage
from pivotrl.storage.record_files import RecordFile, write_file


def rows(count: int, start: int = 0) -> list[SkippedTurn]:
    return [SkippedTurn(turn_id=f"t#{i}", reason=f"reason {i} \u2028 é") for i in range(start, start + count)]


def open_file(path: Path) -> RecordFile[SkippedTurn]:
    return RecordFile(path, SkippedTurn, key=lambda row: row.turn_id)


def test_records_come_back_equal_and_keyed(tmp_path: Path) -> None:
    file = open_file(tmp_path / "a.jsonl")
    file.append(rows(3))
    again = open_file(tmp_path / "a.jsonl")
    assert list(again) == rows(3)
    assert again.get("t#1") == rows(3)[1]
    assert "t#2" in again and "t#3" not in again


def test_a_record_of_defaults_only_survives(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "e.jsonl", EpisodeResult, key=lambda r: r.task_id)
    record = EpisodeResult(task_id="x", reward=None, reason="", num_turns=0, num_tokens=0)
    file.append([record])
    assert list(RecordFile(tmp_path / "e.jsonl", EpisodeResult, key=lambda r: r.task_id)) == [record]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_tail_is_cut_and_the_rest_stays(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.jsonl"
    open_file(path).append(rows(3))
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    file = open_file(path)
    assert list(file) == rows(2)
    assert file.num_torn_bytes > 0
    assert path.read_bytes() == data[:-cut]  # reading changes nothing
    file.append(rows(1, start=2))
    assert path.read_bytes() == data


def test_damage_in_the_middle_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    open_file(path).append(rows(3))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"reason 1", b"reason 7") + lines[2])
    with pytest.raises(ValueError, match=r"a\.jsonl:2 \(byte \d+\) is damaged"):
        open_file(path)


def test_a_flipped_byte_is_never_read_as_data(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    open_file(path).append(rows(2))
    data = path.read_bytes()
    first = data.index(b"\n")
    for position in range(0, first, 5):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(ValueError):
            open_file(path)


def test_a_key_is_never_written_twice(tmp_path: Path) -> None:
    file = open_file(tmp_path / "a.jsonl")
    file.append(rows(1))
    with pytest.raises(ValueError, match="already holds"):
        file.append(rows(1))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_keeps_whole_records_only(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        file = open_file(disk / "a.jsonl")
        written = 0
        with pytest.raises(OSError, match="No space left"):
            while True:
                file.append(rows(5, start=written))
                written += 5
        assert written > 0
        assert list(open_file(disk / "a.jsonl")) == rows(written)
        with pytest.raises(OSError, match="No space left"):
            write_file(disk / "a.json", b"x" * 20_000)
        assert not list(disk.glob(".*tmp"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_second_writer_is_refused_before_it_destroys_anything(tmp_path: Path) -> None:
    first, second = open_file(tmp_path / "a.jsonl"), open_file(tmp_path / "a.jsonl")
    second.append(rows(1))
    with pytest.raises(ValueError, match="another process"):
        first.append(rows(1, start=1))
    assert list(open_file(tmp_path / "a.jsonl")) == rows(1)


WRITER = """
import sys
from pathlib import Path
from pivotrl.records import SkippedTurn
from pivotrl.storage.record_files import RecordFile
file = RecordFile(Path(sys.argv[1]), SkippedTurn, key=lambda r: r.turn_id)
number = len(file)
while True:
    file.append([SkippedTurn(turn_id=str(number + i), reason="x" * 300) for i in range(3)])
    number += 3
    print(number, flush=True)
"""


def test_kill_nine_loses_nothing_acknowledged_and_duplicates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    acknowledged = 0
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        acknowledged = int(process.stdout.readline())
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        told = process.stdout.read().split()
        process.wait()
        acknowledged = int(told[-1]) if told else acknowledged
        keys = [r.turn_id for r in RecordFile(path, SkippedTurn, key=lambda r: r.turn_id)]
        assert len(keys) == len(set(keys)) and len(keys) >= acknowledged
        assert keys == [str(i) for i in range(len(keys))]


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    write_file(path, "old")
    with pytest.raises(TypeError):
        write_file(path, 7)  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]


def test_a_finished_stage_is_skipped_and_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    with Stage(tmp_path, "profile", {"num_samples": 4}, {"policy": "a"}) as stage:
        stage.finish({"turns": 3}, num_rollout_turns=12)
    assert Stage(tmp_path, "profile", {"num_samples": 4}, {"policy": "a"}).done
    with pytest.raises(InputError, match=r"num_samples: was 4, now 8") as refused:
        Stage(tmp_path, "profile", {"num_samples": 8}, {"policy": "b"})
    assert "policy: was 'a', now 'b'" in str(refused.value)


def test_time_adds_up_over_interruptions(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Stage(tmp_path, "train", {}, {}):
        time.sleep(0.02)
        raise KeyboardInterrupt
    first = read_manifest(tmp_path / "train.manifest.json")
    assert first.status == "running" and first.wall_seconds >= 0.02
    with Stage(tmp_path, "train", {}, {}) as stage:
        stage.finish({})
    assert stage.manifest.wall_seconds >= first.wall_seconds


def test_a_directory_with_something_in_it_needs_a_word(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="--resume"), starting_in(tmp_path, resume=False, overwrite=False):
        pass
    with pytest.raises(InputError, match="no pivotrl run"), starting_in(tmp_path, resume=False, overwrite=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]  # not even a lock


def test_what_is_moved_aside_is_the_run_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "read.manifest.json").write_text("{}")
    (tmp_path / "trajectories.jsonl").write_text("rows")
    with pytest.warns(Notice, match="moved to .*replaced"):
        move_aside(tmp_path, "read")
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "replaced"}
    [folder] = (tmp_path / "replaced").iterdir()
    assert (folder / "trajectories.jsonl").read_text() == "rows"
    assert {path.name for path in folder.iterdir()} == {"trajectories.jsonl", "read.manifest.json"}


def test_two_processes_cannot_work_in_one_directory(tmp_path: Path) -> None:
    code = "import sys, pathlib; from pivotrl.runs.lock import RunLock\nRunLock(pathlib.Path(sys.argv[1])).__enter__()"
    with RunLock(tmp_path):
        result = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
        )
    assert "another process is working" in result.stderr
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0


def test_a_run_of_a_newer_version_is_refused_by_name(tmp_path: Path) -> None:
    manifest = Manifest(stage="read", status="complete", options={})
    path = manifest_path(tmp_path, "read")
    write_manifest(path, manifest)
    assert read_manifest(path).schema_version == SCHEMA_VERSION
    content = json.loads(path.read_text()) | {"schema_version": SCHEMA_VERSION + 1, "a_field_of_later": 1}
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"written by a newer version .* up to {SCHEMA_VERSION}"):
        read_manifest(path)


def test_samples_that_were_added_later_belong_to_their_turn(tmp_path: Path) -> None:
    def helping(first: int, *texts: str) -> SampleGroup:
        sampled = {"token_ids_T": (1,), "logprobs_T": (0.0,), "finish_reason": "stop"}
        completions = tuple(Completion(action=Action(content=text), text=text, **sampled) for text in texts)
        verdicts = tuple(Verdict.passed() if text == "a" else Verdict.failed("wrong") for text in texts)
        return SampleGroup(turn_id="t#1", first=first, completions_G=completions, verdicts_G=verdicts)

    file = RecordFile(tmp_path / "profiles.jsonl", SampleGroup)
    file.append([helping(0, "a", "b"), helping(2, "b", "a", "a")])
    assert [group.key for group in file] == ["t#1", "t#1~2"]
    write_manifest(manifest_path(tmp_path, "profile"), Manifest(stage="profile", status="complete", options={}))
    (group,) = RunFiles(tmp_path).profiles()
    assert [completion.text for completion in group.completions_G] == ["a", "b", "b", "a", "a"]
    assert group.mean == 0.6
    with pytest.raises(ValueError, match="does not follow"):
        helping(0, "a").with_more(helping(2, "a"))
