"""`pivotrl watch` tells from the files how far a run is, while another process writes them, and changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from finished_run import snapshot
from pivotrl import cli
from pivotrl.cli.live_progress import PlainLines, Spending
from pivotrl.cli.watch_view import sparkline
from pivotrl.records import Manifest, StepMetrics
from pivotrl.report.following import Follower
from pivotrl.runs.lock import RunLock
from pivotrl.runs.manifest import manifest_path, write_manifest
from pivotrl.runs.status import status_of
from pivotrl.storage.record_files import RecordFile, encode_line
from test_reporting import make_run

STARTED = "2026-01-31T12:00:00Z"
SINCE_STARTED = 1769860800.0 + 100


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    return make_run(tmp_path / "whole")


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """A run in the middle of its training: 12 of 40 steps."""
    run = make_run(tmp_path / "run", stages=("read", "profile", "select", "evaluations/before"))
    whole = make_run(tmp_path / "whole")
    rows = list(RecordFile(whole / "train" / "metrics.jsonl", StepMetrics))
    RecordFile(run / "train" / "metrics.jsonl", StepMetrics).append(rows[:12])
    write_manifest(
        manifest_path(run, "train"),
        Manifest(stage="train", status="running", options={"num_steps": 40}, started_at=STARTED, resumed_at=STARTED),
    )
    return run


def test_a_finished_run_is_told_as_status_tells_it(finished: Path) -> None:
    now, status = Follower(finished).look(), status_of(finished)
    assert now.is_complete and now.running is None
    told = [(stage.stage, stage.rollout_turns, stage.tokens, stage.seconds) for stage in now.stages]
    assert told == [(stage.stage, stage.rollout_turns, stage.tokens, stage.seconds) for stage in status.stages]
    assert {stage.state for stage in now.stages} == {"done"}


def test_progress_and_time_left_of_a_training(training: Path) -> None:
    with RunLock(training):
        now = Follower(training, clock=lambda: SINCE_STARTED).look()
    stage = now.running
    assert stage is not None
    assert (stage.stage, stage.done, stage.total, stage.unit) == ("train", 12, 40, "steps")
    assert stage.seconds == 100
    assert stage.seconds_left == pytest.approx(28 * 3.0)  # each step took 2 s to sample and 1 s to update
    assert not now.is_complete
    assert [row.step for row in now.metrics] == list(range(12))


def test_without_a_process_the_stage_has_stopped_and_nothing_is_left(training: Path) -> None:
    stage = {stage.stage: stage for stage in Follower(training).look().stages}["train"]
    assert stage.state == "stopped" and stage.seconds_left is None


def test_only_new_records_are_read_and_a_torn_line_waits_for_its_end(training: Path) -> None:
    follower, path = Follower(training), training / "train" / "metrics.jsonl"
    assert len(follower.look().metrics) == 12
    line = encode_line(StepMetrics(step=12, metrics={"reward/mean": 0.5}))
    for cut in (1, len(line) // 2, len(line) - 1):
        before = path.read_bytes()
        path.write_bytes(before + line[:cut])
        assert len(follower.look().metrics) == 12
        path.write_bytes(before)
    with path.open("ab") as file:
        file.write(line)
    assert follower.look().metrics[-1].metrics["reward/mean"] == 0.5
    path.write_bytes(line)  # started again with --overwrite: the old rows are gone
    assert [row.step for row in follower.look().metrics] == [12]


def test_damage_in_the_middle_is_said(training: Path) -> None:
    path = training / "train" / "metrics.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"step":3', b'"step":9', 1))
    now = Follower(training).look()
    (train,) = [stage for stage in now.stages if stage.state == "damaged"]
    assert train.stage == "train" and "metrics.jsonl is damaged" in train.fault


DAMAGED = pytest.mark.parametrize("stage", ["read", "profile", "evaluations/before", "train"])


@DAMAGED
def test_a_damaged_manifest_is_named_and_the_others_are_watched_on(stage: str, training: Path) -> None:
    path = manifest_path(training, stage)
    path.write_bytes(path.read_bytes()[:-20])
    with RunLock(training):
        watcher = subprocess.Popen(
            [sys.executable, "-m", "pivotrl.cli", "watch", str(training), "--every-seconds", "0.1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert watcher.stdout is not None
        lines = [watcher.stdout.readline() for _ in range(3)]
        assert watcher.poll() is None, "it watches on while the run is working"
        assert stage == "train" or all("12/40 steps" in line for line in lines)
    _, told = watcher.communicate(timeout=60)
    assert watcher.returncode == 1
    assert told.count(f"{path} is damaged: it is not JSON") == 1, "named once, with its place"
    assert f"{stage} damaged, and no process works on the run" in told


@DAMAGED
def test_a_look_at_a_damaged_run_ends_with_a_code(
    stage: str, training: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = manifest_path(training, stage)
    path.write_text(path.read_text().replace('"status"', '"statu"'))
    with pytest.raises(SystemExit) as ended:
        cli.main(["watch", str(training), "--once"])
    told = capsys.readouterr().out
    assert ended.value.code == 1
    assert "damaged" in told and path.name in "".join(told.split())
    with pytest.raises(SystemExit) as ended:
        cli.main(["watch", str(training), "--every-seconds", "0.2"])
    assert ended.value.code == 1, "nobody works on it, so there is nothing to wait for"


@pytest.mark.parametrize("options", [[], ["--json"], ["--once"], ["--price-per-hour", "2"]])
def test_watching_changes_nothing_and_ends_with_the_run(
    finished: Path, options: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    before = snapshot(finished)
    cli.main(["watch", str(finished), *options])
    told = capsys.readouterr().out
    assert snapshot(finished) == before
    assert "230 items" in told or json.loads(told.splitlines()[0])["is_complete"]
    assert max(map(len, told.splitlines())) <= 80 or options != ["--once"]


def test_a_run_that_is_being_written_is_followed_to_its_end(tmp_path: Path) -> None:
    """Another process trains while we watch; a third kind of observer, the watch, ends by itself."""
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from finished_run import finish_run
finish_run(Path({str(tmp_path)!r}))
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    watcher = subprocess.Popen(
        [sys.executable, "-m", "pivotrl.cli", "watch", str(tmp_path / "run"), "--json", "--every-seconds", "0.05"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    time.sleep(2)
    maker = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert maker.returncode == 0, maker.stderr
    told, _ = watcher.communicate(timeout=60)
    lines = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    assert watcher.returncode == 0
    assert lines[0]["stages"][0]["state"] == "not begun"
    assert lines[-1]["is_complete"]
    turns = [line["rollout_turns"] for line in lines]
    assert turns == sorted(turns) and turns[-1] > 0


def test_a_run_that_stops_ends_the_watch_with_a_code(training: Path) -> None:
    lock = RunLock(training)
    with lock:
        watcher = subprocess.Popen(
            [sys.executable, "-m", "pivotrl.cli", "watch", str(training), "--every-seconds", "0.1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert watcher.stdout is not None
        assert "12/40 steps" in watcher.stdout.readline()
    _, told = watcher.communicate(timeout=60)
    assert watcher.returncode == 1
    assert "train stopped before the end" in told and "pivotrl status" in told


def test_a_look_never_keeps_a_run_from_starting(tmp_path: Path) -> None:
    """To look takes the lock for a moment; one who starts at that moment waits for it."""
    import fcntl
    import threading

    (tmp_path / ".lock").touch()
    with (tmp_path / ".lock").open() as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        threading.Timer(0.02, lambda: fcntl.flock(look, fcntl.LOCK_UN)).start()
        with RunLock(tmp_path):
            pass


def test_a_collapse_is_noticed_while_it_happens(training: Path) -> None:
    rows = [StepMetrics(step=step, metrics={"policy/entropy": 1.0 if step < 20 else 0.01}) for step in range(12, 40)]
    RecordFile(training / "train" / "metrics.jsonl", StepMetrics).append(rows)
    assert any(notice.startswith("Entropy collapsed") for notice in Follower(training).look().notices)


def test_the_lines_of_a_stage_tell_its_cost(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    PlainLines(spending=Spending(finished, 2.0)).progress("steps", 1, 4)
    assert "1/4 steps · 4,600 rollout turns · 73,600 tokens · 6.00 in money" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "bars"), [([], ""), ([1.0], "▁"), ([0, 1], "▁█"), ([0, 0, 7, 7], "▁█"), ([3, 3, 3], "▁▁▁")]
)
def test_a_sparkline_spans_least_to_most(values: list[float], bars: str) -> None:
    assert sparkline(values, 2 if len(values) == 4 else 24) == bars
