"""A training that begins where another one ended: imitation, then PivotRL, then episodes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pivotrl.policies.hf import Policy as HfPolicy
from test_cli import call, logs, refused
from tiny import save_tiny_model

__all__ = ["logs"]

SHORT = ["--num-steps", "2", "--turns-per-step", "4", "--group-size", "2", "--train-max-tokens", "8"]


@pytest.fixture
def run(tmp_path: Path, logs: Path) -> Path:
    """A run with two trainings: the second began from the first one's policy."""
    model, directory = save_tiny_model(tmp_path / "model"), tmp_path / "run"
    acting = ["--policy", "hf(lora_rank=4,device='cpu',dtype='float32')", "--model", model, "--verifier", "exact"]
    assert call("read", logs, "-o", directory) == 0
    assert call("profile", directory, *acting, "--num-samples", "2", "--max-tokens", "8", "--max-turns", "8") == 0
    assert call("select", directory, "--rule", "all") == 0
    rate = ["--learning-rate", "0.01"]
    assert call("train", directory, *SHORT, *rate, "--method", "sft", "--name", "first") == 0
    first = directory / "trainings/first/policy"
    assert (
        call(
            "train",
            directory,
            *SHORT,
            *rate,
            "--method",
            "routing",
            "--name",
            "second",
            "--adapter",
            first,
            "--profile-may-differ-in",
            "policy",
        )
        == 0
    )
    return directory


def test_the_second_training_begins_from_the_first_ones_policy_and_is_measured_on_it(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((run / "trainings/second.manifest.json").read_text())
    assert manifest["policy"]["adapter"] == str(run / "trainings/first/policy")
    given = {"model": str(run.parent / "model"), "lora_rank": 4, "dtype": "float32", "device": "cpu"}
    started = HfPolicy(adapter=str(run / "trainings/first/policy"), **given)  # type: ignore[arg-type]
    begun = HfPolicy(**given)  # type: ignore[arg-type]
    begun.load(run / "trainings/first/checkpoints/step_000002")
    turn = next(iter(_turns(run)))
    prompt, answer = begun.renderer.prompt(turn), begun.encode_action(turn, turn.expected_action).token_ids_T
    torch.testing.assert_close(
        started.learner.logprobs(prompt, answer), begun.learner.logprobs(prompt, answer), rtol=1e-3, atol=1e-3
    )

    few = ["--heldout-turns", "2", "--eval-max-tokens", "8"]
    assert call("evaluate", run, "--training", "second", "--name", "second", *few) == 0  # the directory is enough
    measured = json.loads((run / "evaluations/second.manifest.json").read_text())
    assert measured["policy"]["adapter"] == str(run / "trainings/first/policy")
    assert call("evaluate", run, "--training", "first", "--name", "first", *few) == 0
    assert json.loads((run / "evaluations/first.manifest.json").read_text())["policy"]["adapter"] is None


def test_weights_are_not_measured_on_another_policy_than_they_were_trained_on(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = run.parent / "model"
    told = refused(capsys, 2, "evaluate", run, "--training", "second", "--name", "second", "--model", model)
    assert "trainings/second began from another policy than this one, by adapter; give what it began from" in told
    assert f"--adapter {run / 'trainings/first/policy'}" in told.replace(" -- ", " ")
    assert not (run / "evaluations").exists()


def _turns(run: Path):  # type: ignore[no-untyped-def]
    from pivotrl import cut
    from pivotrl.runs.files import RunFiles

    return cut(RunFiles(run).trajectories())[0]
