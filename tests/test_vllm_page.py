"""The commands of docs/vllm.md, run on a tiny model: profile and select, then train in the ways that the page shows."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("httpx", reason="needs the extra 'judge'")

from pivotrl.records import SampleGroup, StepMetrics
from pivotrl.storage.record_files import RecordFile
from test_cli import call, logs
from test_endpoint import direct as direct
from test_vllm_policy import model as model
from version_server import VersionServer

__all__ = ["logs"]
PAGE = Path(__file__).parents[1] / "docs" / "vllm.md"
SMALL = {
    "profile": "--verifier exact --num-samples 2 --max-tokens 6 --max-turns 6",
    "select": "--rule all",
    "train": "--num-steps 2 --turns-per-step 2 --group-size 2 --train-max-tokens 6 --kl-coefficient 0.01",
}


def commands() -> list[str]:
    text = PAGE.read_text().replace("\\\n", " ")
    found = re.findall(r"^    (pivotrl .*)$", text, re.MULTILINE)
    return [command for command in found if "python=" not in command]  # tests/test_vllm_training.py starts a server


def test_the_commands_of_the_page_run(logs: Path, model: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with VersionServer(model) as server, VersionServer(model) as other:
        assert call("read", logs, "-o", run) == 0
        for command in commands():
            told = command.replace("runs/mine", str(run)).replace("Qwen/Qwen3-4B", str(model))
            told = told.replace("http://node1:8000/v1", server.url).replace("http://node2:8000/v1", other.url)
            told = told.replace("/shared/versions", str(tmp_path / "versions"))
            words = shlex.split(told.replace("http://127.0.0.1:8000/v1", server.url))[1:]
            assert call(*words, *shlex.split(SMALL[words[0]])) == 0, command
        few = ["--heldout-turns", "2", "--eval-max-tokens", "6"]
        drawn = len(server.bodies)
        assert call("evaluate", run, "--training", "whole", "--name", "whole", *few) == 0
        assert len(server.bodies) > drawn, "the server drew the evaluation, with the trained weights"
        assert other.asked, "of two servers both drew"
        profiled = [body for body in server.bodies if body.get("max_tokens") == 6]
        assert profiled, "the server drew the profile"
    assert call("report", run) == 0
    assert "Sampler and trainer differ by" in (run / "report.html").read_text()
    for name, lags in (
        ("train", [0, 0]),
        ("trainings/many", [0, 0]),
        ("trainings/ahead", [0, 1]),
        ("trainings/whole", [0, 0]),
    ):
        rows = [row.metrics for row in RecordFile(run / name / "metrics.jsonl", StepMetrics)]
        assert [row["samples/max_lag"] for row in rows] == lags
        assert all(group.version is not None for group in RecordFile(run / name / "groups.jsonl", SampleGroup))
        manifest = json.loads((run / f"{name}.manifest.json").read_text())
        assert manifest["status"] == "complete" and manifest["options"]["importance_cap"] == 5.0
    assert (run / "train" / "policy" / "adapter_config.json").is_file()
    assert (run / "trainings" / "whole" / "policy" / "model.safetensors").is_file()
