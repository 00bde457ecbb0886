"""A real vLLM on the CPU: fit, and its log-probabilities are those of the local model.

Its CPU build needs an environment of its own, which `make test-vllm` makes.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from pivotrl import cut
from pivotrl.engine.locating import locate
from pivotrl.policies.hf import Policy
from pivotrl.records import Sampling
from pivotrl.samplers.openai import Sampler
from pivotrl.samplers.openai.checking import check_server
from test_endpoint import direct as direct
from test_training import logs

pytestmark = pytest.mark.slow
MODEL = "smollm2-135m-instruct"
START_SECONDS = 600


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if running := os.environ.get("VLLM_URL"):  # one that was started with the options below
        yield running
        return
    python = os.environ.get("VLLM_PYTHON", "")
    if not Path(python).is_file():
        pytest.skip("set VLLM_PYTHON to the interpreter of an environment with vLLM")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = f"--served-model-name m --host 127.0.0.1 --port {port} --dtype float32 --generation-config vllm"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "PYTHONPATH": ""}
    environment |= {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_SERVER_DEV_MODE": "1"}
    options += " --enable-lora --max-lora-rank 16 --enable-auto-tool-choice --tool-call-parser hermes"
    environment |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(locate(MODEL)), *options.split()]
    command += ["--max-model-len", "2048", "--enforce-eager"]
    with (tmp_path_factory.mktemp("vllm") / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and server.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except OSError:
                time.sleep(1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter with noise in it, as peft saves it."""
    base = AutoModelForCausalLM.from_pretrained(locate(MODEL))
    model = peft.get_peft_model(base, peft.LoraConfig(r=8, target_modules=["q_proj", "v_proj"]))
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    return folder


def test_it_is_fit_without_warnings(url: str, adapter: Path) -> None:
    findings = list(check_server(Sampler(base_url=url, model="m", tokenizer=MODEL), str(adapter)))
    assert len(findings) >= 19
    may_warn = ("latency", "n", "tool calls")  # the small model may write no call
    assert [finding for finding in findings if finding.status != "ok" and finding.name not in may_warn] == []


def test_messages_with_tools_are_taken(url: str) -> None:
    findings = {finding.name: finding for finding in check_server(Sampler(base_url=url, model="m"))}
    assert findings["text"].status == "ok" and findings["tool calls"].status != "fault"


def test_its_logprobs_are_those_of_the_local_model(url: str) -> None:
    turns, _ = cut(logs(3, 2))
    groups = list(Sampler(base_url=url, model="m", tokenizer=MODEL).sample(turns, 4, Sampling(max_tokens=16)))
    ours = Policy(model=MODEL, trainable=False, device="cpu").action_logprobs(turns, groups)
    for group, rows in zip(groups, ours, strict=True):
        assert group.fault is None and len({completion.token_ids_T for completion in group.completions_G}) > 1
        for completion, row in zip(group.completions_G, rows, strict=True):
            assert completion.logprobs_T == pytest.approx(row, abs=1e-3)
