"""kill -9 at random moments of a whole run; resumed, it ends with the same files and the same weights."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from test_pipeline import write_logs
from tiny import save_tiny_model

SAME = (
    "trajectories.jsonl",
    "heldout.jsonl",
    "profiles.jsonl",
    "selection.jsonl",
    "train/groups.jsonl",
    "evaluations/before.turns.jsonl",
    "evaluations/after.turns.jsonl",
    "train/policy/adapter_model.safetensors",
)

RULE = """
from pivotrl import Verdict

def verify(turn, action):
    passes = (action.content or "z")[0] < "T" or action == turn.expected_action
    return Verdict.passed() if passes else Verdict.failed("high")
"""


def digests(run: Path) -> dict[str, str]:
    return {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in SAME}


def size(run: Path) -> int:
    """Bytes of its records. The run goes on meanwhile and replaces folders, which `rglob` of Python 3.11 does not
    survive: it lists a checkpoint, and then finds it gone."""
    total = 0
    for folder, _, files in os.walk(run):
        for name in files:
            if name.endswith(".jsonl"):
                with contextlib.suppress(FileNotFoundError):
                    total += Path(folder, name).stat().st_size
    return total


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_kills_at_random_moments_change_nothing(tmp_path: Path, kills: int) -> None:
    logs, model = write_logs(tmp_path / "logs.jsonl"), save_tiny_model(tmp_path / "model")
    (tmp_path / "rule.py").write_text(RULE)
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}

    def start(out: Path) -> subprocess.Popen[str]:
        command = [
            *(sys.executable, "-m", "pivotrl.cli", "run", str(logs), "-o", str(out), "--resume"),
            *("--verifier", "rule:verify", "--model", str(model), "--policy", "hf(lora_rank=4, device='cpu')"),
            *("--num-samples", "4", "--max-tokens", "12", "--batch-turns", "2", "--max-mean", "1.0"),
            *("--num-steps", "30", "--turns-per-step", "4", "--group-size", "4", "--train-max-tokens", "12"),
            *(
                "--learning-rate",
                "0.01",
                "--max-false-pass",
                "1.0",
                "--eval-max-tokens",
                "12",
                "--checkpoint-every",
                "3",
            ),
        ]
        return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    whole = start(tmp_path / "whole")
    _, told = whole.communicate()
    assert whole.returncode == 0, told
    total, generator = size(tmp_path / "whole"), random.Random(5)
    for number in range(kills):
        # Moments spread over the whole run: wait until so much is written, then a random instant, then kill -9.
        process, goal = start(tmp_path / "cut"), total * (number + generator.random()) / (kills + 1)
        while size(tmp_path / "cut") < goal and process.poll() is None:
            time.sleep(0.002)
        time.sleep(generator.random() * 0.05)
        assert process.poll() is None, "the run ended before it was killed"
        process.kill()
        process.wait()
    last = start(tmp_path / "cut")
    _, told = last.communicate()
    assert last.returncode == 0, told
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")
