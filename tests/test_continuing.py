"""A finished training goes on with more steps, and every checkpoint can be evaluated under a name.

Run alone: python -m pytest tests/test_continuing.py
"""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

from pivotrl.cli import main
from pivotrl.policies.tabular import Policy
from pivotrl.records import StepMetrics
from pivotrl.report.summary import summarise
from pivotrl.runs.manifest import manifest_path, read_manifest
from pivotrl.storage.record_files import read_records
from test_pipeline import write_logs


def pivotrl(*arguments: object) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0


def weights(directory: Path, training: str = "train") -> Any:
    (newest,) = sorted((directory / training / "checkpoints").iterdir())[-1:]
    return json.loads((newest / "table.json").read_text())["logits"]


@pytest.fixture(scope="module")
def selected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    logs, run = folder / "logs.jsonl", folder / "run"
    write_logs(logs, 12)
    assert pivotrl("read", logs, "-o", run, "--heldout-fraction", "0.4") == 0
    assert pivotrl("profile", run, "--policy", "tabular", "--num-samples", "8", "--max-false-pass", "1") == 0
    assert pivotrl("select", run) == 0
    assert pivotrl("evaluate", run, "--name", "before", "--eval-temperatures", "0", "1", "--turn-samples", "3") == 0
    return run


def train(run: Path, steps: int, *more: object) -> int:
    return pivotrl("train", run, "--num-steps", steps, "--turns-per-step", "4", "--max-false-pass", "1", *more)


def copy(run: Path, to: Path) -> Path:
    shutil.copytree(run, to)
    return to


def test_more_steps_continue_a_finished_training_as_if_it_had_never_stopped(selected: Path, tmp_path: Path) -> None:
    whole, parts = copy(selected, tmp_path / "whole"), copy(selected, tmp_path / "parts")
    assert train(whole, 8) == 0
    assert train(parts, 3) == 0
    assert pivotrl("evaluate", parts) == 0
    assert train(parts, 8) == 0
    assert weights(whole) == weights(parts)
    assert (whole / "train/groups.jsonl").read_bytes() == (parts / "train/groups.jsonl").read_bytes()
    exports = [json.loads((run / "train/policy/probabilities.json").read_text()) for run in (whole, parts)]
    assert exports[0] == exports[1], "the exported policy is that of the last step"
    manifest = read_manifest(manifest_path(parts, "train"))
    assert manifest.status == "complete" and manifest.counts["steps"] == 8
    (was,) = manifest.options["continued_from"]
    assert was["num_steps"] == 3 and was["finished_at"]
    assert len(read_records(parts / "train/metrics.jsonl", StepMetrics)) == 8
    assert not (parts / "evaluations/after.turns.jsonl").exists(), "it measured another policy"
    assert list(parts.glob("replaced/*/evaluations/after.turns.jsonl")), "and is kept"
    assert pivotrl("evaluate", parts) == 0
    assert train(parts, 8) == 0, "and nothing happens when it is asked for again"


def test_a_training_that_another_policy_cannot_continue_stays_as_it_was(selected: Path, tmp_path: Path) -> None:
    run = copy(selected, tmp_path / "run")
    assert train(run, 3) == 0 and pivotrl("evaluate", run) == 0
    before = manifest_path(run, "train").read_bytes()
    assert train(run, 8, "--policy", "tabular(seed=1)") == 2
    assert manifest_path(run, "train").read_bytes() == before
    assert (run / "evaluations/after.manifest.json").is_file() and not (run / "replaced").exists()


def test_a_continued_training_that_was_killed_goes_on(selected: Path, tmp_path: Path, monkeypatch: Any) -> None:
    whole, parts = copy(selected, tmp_path / "whole"), copy(selected, tmp_path / "parts")
    assert train(whole, 6) == 0
    assert train(parts, 2) == 0
    update, left = Policy.update, [2]

    def stopping(self: Policy, *arguments: Any) -> Any:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return update(self, *arguments)

    monkeypatch.setattr(Policy, "update", stopping)
    assert train(parts, 6) != 0
    monkeypatch.undo()
    assert read_manifest(manifest_path(parts, "train")).status == "running"
    assert pivotrl("train", parts, "--policy", "tabular") == 0, "the steps asked for last are remembered"
    assert weights(whole) == weights(parts)


def test_a_checkpoint_of_an_unfinished_training_is_measured(selected: Path, tmp_path: Path, monkeypatch: Any) -> None:
    run, save = copy(selected, tmp_path / "run"), Policy.save

    def interrupted(self: Policy, path: Path) -> None:
        if path.name == "step_000004":
            raise KeyboardInterrupt
        save(self, path)

    monkeypatch.setattr(Policy, "save", interrupted)
    assert train(run, 4, "--checkpoint-every", 2) != 0
    assert read_manifest(manifest_path(run, "train")).status == "running"
    assert pivotrl("evaluate", run, "--name", "two", "--checkpoint", "2") == 0
    assert pivotrl("evaluate", run, "--name", "other", "--checkpoint", "2", "--policy", "tabular(seed=1)") == 2


def test_fewer_steps_and_a_rate_that_has_fallen_are_refused(
    selected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy(selected, tmp_path / "run")
    assert train(run, 3, "--decay", "linear") == 0
    stored = weights(run)
    assert train(run, 6, "--decay", "linear") == 2
    assert "learning rate falls to the end of its 3 steps" in capsys.readouterr().err
    assert train(run, 2, "--decay", "linear") == 2
    assert "num_steps: was 3, now 2" in capsys.readouterr().err
    assert weights(run) == stored and read_manifest(manifest_path(run, "train")).status == "complete"


def test_every_checkpoint_is_measured_under_its_name_and_shown(
    selected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy(selected, tmp_path / "run")
    assert train(run, 4, "--checkpoint-every", "2", "--keep-checkpoints", "all") == 0
    for step in (2, 4):
        assert pivotrl("evaluate", run, "--name", f"step-{step}", "--checkpoint", step) == 0
    told = capsys.readouterr().out
    assert "held-out turns, greedy: " in told and "held-out turns at T = 1: " in told and "change since before" in told
    assert pivotrl("evaluate", run) == 0
    assert pivotrl("evaluate", run, "--name", "base", "--as-given") == 0
    by_stage = {one.stage.partition("/")[2]: one for one in summarise(run).evaluations}
    assert {name: (one.training, one.step) for name, one in by_stage.items()} == {
        "before": (None, None),
        "after": ("train", None),
        "base": (None, None),
        "step-2": ("train", 2),
        "step-4": ("train", 4),
    }
    scores = {name: [score.estimate.mean for score in one.scores] for name, one in by_stage.items()}
    assert len(scores["before"]) == 2 and scores["base"] == scores["before"]
    assert scores["step-4"] == scores["after"]
    assert pivotrl("report", run) == 0
    page = (run / "report.html").read_text()
    assert "step-2" in page and "step-4" in page
    assert "Checkpoints of train by step" in page, "a curve over steps 0, 2 and 4"
    assert pivotrl("evaluate", run, "--name", "step-3", "--checkpoint", "3") == 2
    assert "after these steps: 2, 4" in capsys.readouterr().err
    assert train(run, 6, "--keep-checkpoints", "all") == 0
    assert (run / "evaluations/step-2.turns.jsonl").exists(), "a checkpoint is what it was"


def test_walks_and_questions_are_measured_by_the_command_and_compared(
    selected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file = copy(selected, tmp_path / "run"), tmp_path / "questions.jsonl"
    rows = [{"id": str(n), "source": f"sums-{n % 2}", "prompt": f"{n}+1", "answer": str(n + 1)} for n in range(6)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert train(run, 2) == 0
    asked = ("--progress-trajectories", "3", "--answers", file, "--eval-temperatures", "0", "1")
    assert pivotrl("evaluate", run, "--name", "before", "--overwrite", *asked) == 0
    capsys.readouterr()
    assert pivotrl("evaluate", run, *asked) == 0
    told = capsys.readouterr().out
    assert "own-history progress, greedy: " in told and "own-history progress at T = 1: " in told
    assert "answers outside the task: " in told and "answers, sums-1: " in told and "(share right, 3 items)" in told
    found = summarise(run)
    measured = {comparison.name for comparison in found.comparisons}
    assert {"held-out turns, greedy", "own-history progress at T = 1", "answers, sums-0"} <= measured
    assert not any(name.startswith("answers") for name in found.adjusted_p_values), "only measures of the task"
    assert pivotrl("report", run) == 0
    page = (run / "report.html").read_text()
    assert "Own-history progress, greedy" in page and "sums-1, share right" in page
