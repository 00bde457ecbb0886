"""`pivotrl bench` with real processes of a small benchmark: who plays, what is kept, and what becomes of faults."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pivotrl.protocols import InputError
from pivotrl.records import TrialResult
from pivotrl.report.benches import benches_of
from pivotrl.report.summary import read_manifests
from pivotrl.runs.files import RunFiles
from pivotrl.stages.benching import BenchOptions, bench_stage
from pivotrl.stages.benching.endpoints import gold_contestant
from pivotrl.storage.record_files import RecordFile
from plugins.sums_bench import Harness

PYTHON = Path(sys.executable)


def play(
    directory: Path, harness: Harness | None = None, contestant: Any = None, retry: bool = False, **more: Any
) -> None:
    harness = harness or Harness()
    bench_stage(
        directory,
        "sums",
        contestant or gold_contestant(harness),
        harness=harness,
        bench=BenchOptions(**{"processes": 2, "task_seconds": 20.0, **more}),
        harness_python=PYTHON,
        retry=retry,
    )


def trials(directory: Path, player: str = "gold") -> dict[str, TrialResult]:
    file = RecordFile(directory / "bench" / "sums" / f"{player}.trials.jsonl", TrialResult)
    return {result.key: result for result in file}


def played(directory: Path, player: str = "gold") -> Counter[str]:
    """How often each task was begun, by the notes of the program itself."""
    notes = (directory / "bench" / "sums" / player).glob("*/played.txt")
    return Counter(line for path in notes for line in path.read_text().splitlines())


def test_gold_solves_every_task_and_nothing_is_played_twice(tmp_path: Path) -> None:
    play(tmp_path, trials=2)
    found = trials(tmp_path)
    assert len(found) == 8 and {result.reward for result in found.values()} == {1.0}
    assert played(tmp_path) == Counter({f"{n}+{n} {seed}": 1 for n in range(1, 5) for seed in (0, 1)})
    play(tmp_path, trials=2)
    assert played(tmp_path).total() == 8
    (bench,) = benches_of(RunFiles(tmp_path), read_manifests(tmp_path))
    (player,) = bench.players
    assert player.score and player.score.mean == 1.0 and player.score.low < 1.0 and player.score.num_clusters == 4


def test_more_tasks_and_trials_keep_those_that_are_played(tmp_path: Path) -> None:
    play(tmp_path, Harness(num_tasks=6), tasks=2)
    first = set(trials(tmp_path))
    play(tmp_path, Harness(num_tasks=6), tasks=4, trials=2)
    assert first < set(trials(tmp_path)) and len(trials(tmp_path)) == 8
    assert max(played(tmp_path).values()) == 1
    with pytest.raises(InputError, match="trials: was 2, now 1"):
        play(tmp_path, Harness(num_tasks=6), tasks=4)
