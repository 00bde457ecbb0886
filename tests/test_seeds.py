"""`pivotrl train --seeds`: one training for each seed, and a report that pools them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pivotrl.cli import main
from pivotrl.evaluation.differences import crossed_difference
from pivotrl.records import TurnResult
from pivotrl.report.page import write_report
from pivotrl.report.pooling import pooled_scores
from pivotrl.report.summary import read_manifests, summarise
from pivotrl.runs.files import RunFiles
from pivotrl.runs.manifest import read_manifest
from pivotrl.storage.record_files import read_records
from test_pipeline import write_logs
from tiny import save_tiny_model

TRAINING = ["--num-steps", "6", "--turns-per-step", "8", "--group-size", "4", "--learning-rate", "2"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    out = tmp_path / "run"
    common = ["--policy", "tabular", "--verifier", "exact", "--num-samples", "8", "--eval-temperature", "1"]
    main(["run", str(write_logs(tmp_path / "logs.jsonl")), "-o", str(out), *common, *TRAINING])
    return out


def test_trainings_of_several_seeds_are_pooled_with_the_runs_own(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", str(run), "--seeds", "1", "2"])
    for seed in (1, 2):
        main(["evaluate", str(run), "--training", f"seed{seed}", "--name", f"after-seed{seed}"])
        assert read_manifest(run / "trainings" / f"seed{seed}.manifest.json").options["train_seed"] == seed
    groups = [(run / place / "groups.jsonl").read_text() for place in ("train", "trainings/seed1", "trainings/seed2")]
    assert len(set(groups)) == 3
    (pooled,) = summarise(run).pooled
    assert pooled.trainings == ("train", "trainings/seed1", "trainings/seed2")
    assert (pooled.name, pooled.difference.num_seeds) == ("held-out turns at T = 1", 3)
    # The table has a row for each turn and learns nothing at held-out ones, so we give the items their rewards by hand.
    rng, names = np.random.default_rng(0), ("before", "after", "after-seed1", "after-seed2")
    rows = {name: read_records(run / "evaluations" / f"{name}.turns.jsonl", TurnResult) for name in names}
    tasks = sorted({row.task_id for row in rows["before"]})
    reward_NT = rng.random((4, len(tasks)))

    class Scored(RunFiles):
        def _results(self, name, kind, model):
            if kind != "turns":
                return super()._results(name, kind, model)
            value = dict(zip(tasks, reward_NT[names.index(name)], strict=True))
            return [row.model_copy(update={"reward": value[row.task_id]}) for row in rows[name]]

    (pooled,) = pooled_scores(Scored(run), read_manifests(run))
    expected = crossed_difference(reward_NT[1:] - reward_NT[0], bounded=True)
    assert dataclasses.astuple(pooled.difference) == pytest.approx(dataclasses.astuple(expected))
    assert (pooled.before, pooled.after) == pytest.approx((reward_NT[0].mean(), reward_NT[1:].mean()))
    write_report(run)
    page = (run / "report.html").read_text()
    assert "Means over seeds" in page and "3 seeds" in page
    capsys.readouterr()
    main(["report", str(run)])
    assert "mean over seeds" in capsys.readouterr().out


def test_a_set_of_seeds_resumes_and_other_options_are_another_set(run: Path) -> None:
    main(["train", str(run), "--name", "a", "--seeds", "0", "1"])
    stamps = {path: path.stat().st_mtime_ns for path in (run / "trainings").rglob("*.jsonl")}
    main(["train", str(run), "--name", "a", "--seeds", "0", "1", "2"])
    assert stamps.items() <= {path: path.stat().st_mtime_ns for path in (run / "trainings").rglob("*.jsonl")}.items()
    main(["train", str(run), "--name", "b", "--seeds", "1", "2", "--clip-high", "0.3"])
    for training in ("a-seed1", "a-seed2", "b-seed1"):
        main(["evaluate", str(run), "--training", training, "--name", training])
    sets = {pooled.trainings for pooled in summarise(run).pooled}
    assert sets == {("train", "trainings/a-seed1", "trainings/a-seed2")}  # one seed of b is no set
    main(["evaluate", str(run), "--training", "b-seed2", "--name", "b-seed2"])
    sets = {pooled.trainings for pooled in summarise(run).pooled}
    assert sets == {("train", "trainings/a-seed1", "trainings/a-seed2"), ("trainings/b-seed1", "trainings/b-seed2")}
    # Twin: the same seed twice is one seed.
    main(["evaluate", str(run), "--training", "a-seed0", "--name", "a-seed0"])
    assert {pooled.trainings for pooled in summarise(run).pooled} == sets


def test_every_seed_has_an_adapter_of_its_own(tmp_path: Path) -> None:
    out, model = tmp_path / "run", str(save_tiny_model(tmp_path / "model"))
    logs = str(write_logs(tmp_path / "logs.jsonl"))
    given = ["--policy", "hf(lora_rank=2, dtype='float32', device='cpu')", "--model", model, "--verifier", "exact"]
    main(["read", logs, "-o", str(out)])
    short = ["--num-samples", "2", "--max-tokens", "4"]
    main(["profile", str(out), *given, *short])
    main(["select", str(out), "--rule", "all", "--max-mean", "1"])
    train = [
        "train",
        str(out),
        "--method",
        "sft",
        "--num-steps",
        "1",
        "--turns-per-step",
        "2",
        "--train-max-tokens",
        "32",
    ]
    main([*train, "--seeds", "0", "1"])
    weights = [next((out / "trainings" / f"seed{s}" / "policy").glob("*.safetensors")).read_bytes() for s in (0, 1)]
    assert weights[0] != weights[1]
    assert [read_manifest(out / "trainings" / f"seed{s}.manifest.json").options["seed"] for s in (0, 1)] == [0, 1]
    main(["evaluate", str(out), "--training", "seed1", "--name", "seed1", "--eval-max-tokens", "4"])
    with pytest.raises(SystemExit) as stopped:
        main([*train, "--seeds", "2", "--policy", "hf(lora_rank=2, seed=4)"])
    assert stopped.value.code == 2


def test_seeds_are_named_once(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["train", str(run), "--seeds", "1", "1"])
    assert stopped.value.code == 2 and "--seeds" in capsys.readouterr().err
