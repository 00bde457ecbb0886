"""A training whose samples a real vLLM draws, on the CPU: an adapter, and all weights.

Its CPU build needs an environment of its own, which `make test-vllm-train` makes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from pivotrl import Action, TrainingOptions, Turn, Verdict, cut, train
from pivotrl.policies.vllm import Policy
from pivotrl.protocols import InputError
from pivotrl.records import SampleGroup, Sampling
from pivotrl.storage.record_files import RecordFile
from test_endpoint import direct as direct
from test_training import logs
from test_vllm import MODEL
from test_vllm import url as url

pytestmark = pytest.mark.slow
TURNS = cut(logs(4, 1))[0]
OPTIONS = TrainingOptions(
    num_steps=3, turns_per_step=2, group_size=4, learning_rate=1e-3, train_max_tokens=12, kl_coefficient=0.01
)


def short_words(turn: Turn, action: Action) -> Verdict:
    """A rule that some of the samples meet."""
    return Verdict.passed() if len((action.content or "").split()) % 2 else Verdict.failed("even")


def policy_at(url: str, inner: str, **more: Any) -> Policy:
    return Policy(base_url=url, served="m", policy=inner, model=MODEL, deadline_seconds=600.0, **more)


def trained(policy: Policy, folder: Path, options: TrainingOptions) -> list[dict[str, float]]:
    rows = [row.metrics for row in train(policy, TURNS, short_words, folder, options)]
    for number, row in enumerate(rows):
        print({name: round(value, 6) for name, value in row.items() if name.split("/")[0] in _SHOWN}, number)
    return rows


_SHOWN = ("sync", "importance", "samples", "policy", "groups", "time")


def test_an_adapter_of_each_version_acts_on_vllm(url: str, tmp_path: Path) -> None:
    policy = policy_at(url, "hf(lora_rank=16, dtype='float32', device='cpu')")
    rows = trained(policy, tmp_path, OPTIONS)
    assert all(row["sync/canary_gap"] < 1e-3 and row["policy/sampler_gap_max"] < 2e-3 for row in rows)
    assert [row["samples/max_lag"] for row in rows] == [0, 0, 0]
    assert rows[2]["loss/kl"] > 0, "the weights have moved"
    assert all(row["sync/cache_reset"] == 1 for row in rows)
    held = [name for name in policy.publisher.replicas[0].server._rows() or () if name.startswith("pivotrl-")]
    assert len(held) == 1, "older adapters are unloaded"


def test_the_next_step_is_sampled_ahead_on_vllm(url: str, tmp_path: Path) -> None:
    policy = policy_at(url, "hf(lora_rank=16, dtype='float32', device='cpu')")
    rows = trained(policy, tmp_path, dataclasses.replace(OPTIONS, sample_ahead=True))
    groups = list(RecordFile(tmp_path / "groups.jsonl", SampleGroup))
    assert [row["samples/max_lag"] for row in rows] == [0, 1, 1]
    assert {(group.step, group.version) for group in groups} == {(0, 0), (1, 0), (2, 1)}
    assert rows[2]["policy/sampler_gap_max"] > rows[0]["policy/sampler_gap_max"], "one update behind"


def answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/models", timeout=5, trust_env=False).status_code == 200
    return False


def test_a_server_of_its_own_starts_and_ends_with_the_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (python := os.environ.get("VLLM_PYTHON")):
        pytest.skip("set VLLM_PYTHON to the interpreter of an environment with vLLM")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    inner = "hf(lora_rank=16, dtype='float32', device='cpu')"
    more = ["--max-model-len", "2048", "--enforce-eager"]
    policy = Policy(python=python, arguments=more, policy=inner, model=MODEL, deadline_seconds=600.0)
    rows = trained(policy, tmp_path, dataclasses.replace(OPTIONS, num_steps=2))
    assert all(row["sync/canary_gap"] < 1e-3 and row["policy/sampler_gap_max"] < 2e-3 for row in rows)
    url = policy.publisher.replicas[0].server.endpoint.base_url
    assert answers(url)
    del policy
    gc.collect()
    assert not answers(url)


def test_a_rank_that_the_server_does_not_take_is_refused_with_its_words(url: str) -> None:
    policy = policy_at(url, "hf(lora_rank=32, dtype='float32', device='cpu')", max_tries=1)
    with pytest.raises(InputError, match=r"does not load the adapter .*rank"):
        policy.publish(0)


def moved(policy: Policy) -> dict[str, torch.Tensor]:
    """Other weights, as after an update; those before are returned."""
    weights = policy.learner.weights.trained()
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in weights.values():
            weight.mul_(1 + 0.02 * torch.randn_like(weight))
    policy.publisher.outdate()
    return before


def furthest(groups: list[SampleGroup], policy: Policy) -> float:
    """The largest difference between what the server says of its samples and what the policy does, nats."""
    ours = policy.action_logprobs(TURNS[:2], groups)
    told = [[completion.logprobs_T for completion in group.completions_G] for group in groups]
    return max(
        abs(a - b)
        for rows, others in zip(told, ours, strict=True)
        for row, other in zip(rows, others, strict=True)
        for a, b in zip(row, other, strict=True)
    )


def test_all_weights_above_the_embeddings_are_reloaded_by_vllm(url: str) -> None:
    policy = policy_at(url, "hf(lora_rank=0, frozen_layers=20, dtype='float32', device='cpu')")
    policy.publish(0)
    before = moved(policy)
    groups = list(policy.publish(1).sample(TURNS[:2], 2, Sampling(max_tokens=12)))
    assert {group.version for group in groups} == {1} and furthest(groups, policy) < 1e-3
    with torch.no_grad():
        for name, weight in policy.learner.weights.trained().items():
            weight.copy_(before[name])
    assert furthest(groups, policy) > 0.05, "the weights before would have told other numbers"


def test_the_canary_finds_the_tied_output_layer_that_vllm_leaves_as_it_was(url: str) -> None:
    """vLLM 0.32 on the CPU packs its own copy of the output layer and does not reload it where it is tied to the
    embeddings: every other weight is new. When a later version does, this test is to go."""
    policy = policy_at(url, "hf(lora_rank=0, dtype='float32', device='cpu')")
    policy.publish(0)
    moved(policy)
    with pytest.raises(InputError, match="canary of version 1 .*does not act with the weights that it was given"):
        policy.publish(1)
