"""Several processes learn, and several servers draw their samples: the training of one process at one server."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("httpx", reason="needs the extra 'judge'")

from crews import together
from pivotrl import plugins, train
from pivotrl.policies.vllm import Policy
from test_endpoint import direct as direct
from test_training import even_length
from test_vllm_policy import TURNS, groups_of, options
from test_vllm_policy import model as model
from version_server import VersionServer, seeds


def learn(out: Path, urls: list[str], model: Path, lora_rank: int, ahead: bool) -> None:
    inner = f"hf(lora_rank={lora_rank}, dtype='float32', device='cpu')"
    policy = Policy(base_url=urls, served="m", policy=inner, model=str(model), choices="single", deadline_seconds=60.0)
    rows = train(policy, TURNS, even_length, out, options(sample_ahead=ahead))
    if not ahead:
        assert all(row.metrics["policy/sampler_gap_max"] < 1e-4 for row in rows)
    policy.export(out / "policy")


def work(crew, *given) -> None:
    if crew.rank == 0:
        with crew.leading():
            learn(*given)
    else:
        crew.follow(lambda name, given: plugins.load("policies", name, **given))


@pytest.mark.parametrize(
    ("lora_rank", "ahead"),
    [(4, False), pytest.param(0, False, marks=pytest.mark.slow), pytest.param(4, True, marks=pytest.mark.slow)],
)
def test_two_processes_and_two_servers_learn_what_one_process_and_one_server_learn(model, tmp_path, lora_rank, ahead):
    asked = []
    for name, number in (("one", 1), ("two", 2)):
        with contextlib.ExitStack() as stack:
            servers = [stack.enter_context(VersionServer(model)) for _ in range(number)]
            given = tmp_path / name, [server.url for server in servers], model, lora_rank, ahead
            together(2, work, *given) if number == 2 else learn(*given)
            asked.append(sorted(seed for server in servers for seed in seeds(server.asked)))
            assert all(server.asked for server in servers)
    assert asked[0] == asked[1]
    one, two = (groups_of(tmp_path / name) for name in ("one", "two"))
    assert [group.version for group in one] == [group.version for group in two]
    for first, second in zip(one, two, strict=True):
        assert [c.token_ids_T for c in first.completions_G] == [c.token_ids_T for c in second.completions_G]
    file = "adapter_model.safetensors" if lora_rank else "model.safetensors"
    mine, other = (load_file(tmp_path / name / "policy" / file) for name in ("one", "two"))
    for key, tensor in mine.items():
        torch.testing.assert_close(other[key], tensor, rtol=1e-3, atol=1e-4)
