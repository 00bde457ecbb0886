"""`pivotrl serve` on a real vLLM: the same contract, and the numbers of the local model. Minutes (make test-vllm)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra 'hf'")
pytest.importorskip("openai", reason="needs the package openai")

from pivotrl.policies.hf import Policy
from pivotrl.records import Sampling
from pivotrl.samplers.openai import Sampler
from pivotrl.samplers.openai.checking import check_server
from pivotrl.samplers.openai.probing import asked
from serving_contract import check_contract
from serving_setup import Process
from test_vllm import MODEL
from test_vllm import adapter as adapter

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(adapter: Path) -> Iterator[str]:
    python = os.environ.get("VLLM_PYTHON", "")
    if not Path(python).is_file():
        pytest.skip("set VLLM_PYTHON to the interpreter of an environment with vLLM")
    server = Process(
        *(str(adapter), "--policy", f"hf(model='{MODEL}', dtype='float32')", "--name", "m", "--port", "0"),
        *("--engine", "vllm", "--vllm-python", python, "--vllm-arguments=--max-model-len 2048 --enforce-eager"),
        VLLM_CPU_KVCACHE_SPACE="1",
        HF_HUB_OFFLINE="1",
    )
    yield server.url()
    code, told = server.end()
    assert code == 0 and "--enable-lora" in told, told


def test_the_contract_holds_on_vllm(url: str) -> None:
    check_contract(url, "m")


def test_it_is_fit_and_has_the_logprobs_of_the_adapted_model(url: str, adapter: Path) -> None:
    sampler = Sampler(base_url=url, model="m", tokenizer=MODEL)
    may_warn = ("latency", "tool calls", "stop", "seed repeats", "greedy repeats")
    assert [f for f in check_server(sampler) if f.status != "ok" and f.name not in may_warn] == []
    turn = asked("Describe a harbour at dawn.")
    (group,) = sampler.sample([turn], 3, Sampling(max_tokens=12))
    policy = Policy(model=MODEL, adapter=str(adapter), trainable=False, device="cpu")
    (ours,) = policy.action_logprobs([turn], [group])
    for completion, row in zip(group.completions_G, ours, strict=True):
        assert completion.logprobs_T == pytest.approx(row, abs=5e-3)
