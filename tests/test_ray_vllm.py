"""A run whose processes and vLLM servers Ray places makes the pivots and weights of one process.

Real vLLM on the CPU with SmolLM2-135M, and FSDP in two processes. Needs the extra ``ray`` and an
environment with vLLM, which `make test-scale` makes.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pivotrl.records import SampleGroup, Selection, StepMetrics
from pivotrl.storage.record_files import read_records
from test_endpoint import direct as direct
from test_pipeline import write_logs
from test_ray_placement import VERIFIERS, done, environment, here, placed, torchrun

if importlib.util.find_spec("ray") is None:
    pytest.skip("needs the extra 'ray': make test-ray", allow_module_level=True)
pytestmark = pytest.mark.slow
LEARNER = "hf(lora_rank=16, dtype='float32', device='cpu')"


def serve() -> list[str]:
    python = os.environ.get("VLLM_PYTHON", "")
    if not Path(python).is_file():
        pytest.skip("set VLLM_PYTHON to the interpreter of an environment with vLLM")
    return [python, "-m", "vllm.entrypoints.cli.main", "serve"]


def words(folder: Path, name: str, policy: str) -> list[str]:
    run = ["run", str(folder / "logs.jsonl"), "-o", str(folder / name), "--reader", "chat", "--policy", policy]
    run += ["--verifier", "judges:even", "--max-false-pass", "1.0", "--num-samples", "4", "--max-tokens", "12"]
    run += ["--max-mean", "1.0", "--num-steps", "3", "--turns-per-step", "4", "--group-size", "4"]
    return [*run, "--train-max-tokens", "12", "--eval-max-tokens", "6", "--learning-rate", "1e-4"]


def pivots(out: Path) -> list[str]:
    return [row.turn_id for row in read_records(out / "selection.jsonl", Selection)]


def test_one_process_fsdp_and_fsdp_with_vllm_on_ray(tmp_path: Path, direct: None) -> None:
    command = serve()
    (tmp_path / "judges.py").write_text(VERIFIERS)
    write_logs(tmp_path / "logs.jsonl", 6)
    done(tmp_path, here(words(tmp_path, "alone", LEARNER)))
    done(tmp_path, torchrun(words(tmp_path, "fsdp", LEARNER)))
    given = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1"}
    spec = f"vllm(policy={LEARNER!r}, choices='single', max_tries=60, deadline_seconds=600.0)"
    limits = ["--max-model-len", "1024", "--enforce-eager"]
    cluster = f"ray(processes=2, cpus=0.25, servers=2, server_cpus=0.25, serve={command!r}, serve_options={limits!r})"
    # What vLLM draws from a seed is not what we draw: the profile of one process, whose samples then train on vLLM.
    out = tmp_path / "served"
    subprocess.run(["cp", "-r", str(tmp_path / "fsdp"), str(out)], check=True)
    train = ["train", str(out), "--name", "ray", "--policy", spec, "--learning-rate", "1e-4", "--max-false-pass", "1.0"]
    ended = subprocess.run(
        placed(train, cluster), env=environment(tmp_path) | given, capture_output=True, text=True, timeout=3000
    )
    assert ended.returncode == 0, ended.stderr
    assert pivots(tmp_path / "alone") == pivots(tmp_path / "fsdp") == pivots(out)
    name = "policy/adapter_model.safetensors"
    weights = load_file(tmp_path / "alone" / "train" / name)
    for key, tensor in load_file(tmp_path / "fsdp" / "train" / name).items():
        torch.testing.assert_close(tensor, weights[key], rtol=1e-3, atol=1e-4)
    rows = read_records(out / "trainings" / "ray" / "metrics.jsonl", StepMetrics)
    assert len(rows) == 3 and all(row.metrics["sync/canary_gap"] < 1e-3 for row in rows)
    assert all(row.metrics["policy/sampler_gap_max"] < 2e-3 for row in rows)
    groups = read_records(out / "trainings" / "ray" / "groups.jsonl", SampleGroup)
    assert len({(group.step, group.turn_id) for group in groups}) == len(groups) == 12
