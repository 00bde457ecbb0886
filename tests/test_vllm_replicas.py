"""Several servers draw the samples of one training: they share the work, and some of them go and come back."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx", reason="needs the extra 'judge'")

from pivotrl import plugins, train
from pivotrl.policies.hf import Policy as HfPolicy
from pivotrl.policies.vllm import Policy
from pivotrl.protocols import InputError, Notice
from pivotrl.records import Sampling
from test_endpoint import direct as direct
from test_training import bit_patterns, even_length
from test_vllm_policy import LORA, TURNS, WHOLE, groups_of, options
from test_vllm_policy import model as model
from tiny import save_tiny_model
from version_server import VersionServer, seeds

PER_STEP = 3 * 4
"""Samples of a step."""


@pytest.fixture
def two(model: Path) -> Iterator[tuple[VersionServer, VersionServer]]:
    with VersionServer(model) as one, VersionServer(model) as other:
        yield one, other


def policy_at(two: tuple[VersionServer, ...], model: Path, inner: str = LORA, **more: Any) -> Policy:
    given = {"served": "m", "choices": "single", "deadline_seconds": 60.0, "max_tries": 2, "max_in_flight": 4}
    return Policy(base_url=[server.url for server in two], policy=inner, model=str(model), **{**given, **more})


def asked_of(two: tuple[VersionServer, ...]) -> list[int]:
    return [seed for server in two for seed in seeds(server.asked)]


@pytest.mark.parametrize("inner", [LORA, WHOLE])
def test_both_get_every_version_and_share_the_work(
    two: tuple[VersionServer, VersionServer], model: Path, tmp_path: Path, inner: str
) -> None:
    policy = policy_at(two, model, inner)
    rows = train(policy, TURNS, even_length, tmp_path / "served", options())
    assert [len(set(server.loaded)) for server in two] == [3, 3]
    assert all(row.metrics["policy/sampler_gap_max"] < 1e-4 and row.metrics["sync/servers"] == 2 for row in rows)
    assert {(group.step, group.version) for group in groups_of(tmp_path / "served")} == {(0, 0), (1, 1), (2, 2)}
    assert len(asked_of(two)) == len(set(asked_of(two))) == 3 * PER_STEP
    assert min(len(server.asked) for server in two) >= PER_STEP / 2
    (tmp_path / "local").mkdir()
    shutil.copy(tmp_path / "served" / "groups.jsonl", tmp_path / "local")
    local = HfPolicy(model=str(model), lora_rank=4 * (inner == LORA), dtype="float32", device="cpu")
    train(local, TURNS, even_length, tmp_path / "local", options(importance_cap=5.0))
    assert bit_patterns(local) == bit_patterns(policy.learner.weights)


def test_turns_of_a_trajectory_stay_with_one_server(two: tuple[VersionServer, VersionServer], model: Path) -> None:
    list(policy_at(two, model).publish(0).sample(TURNS, 4, Sampling(max_tokens=4)))
    longest = max((turn.trajectory for turn in TURNS), key=lambda one: len(one.messages))
    policy = policy_at(two, model)
    prompts = [tuple(policy.renderer.prompt(turn)) for turn in TURNS if turn.trajectory is longest]
    assert len(prompts) > 1
    who = {number for number, server in enumerate(two) for body in server.asked if tuple(body["prompt"]) in prompts}
    assert len(who) == 1
    assert all(server.asked for server in two), "other trajectories go to the other server"


@pytest.mark.parametrize("inner", [LORA, WHOLE])
def test_a_server_dies_in_a_step_and_comes_back(
    two: tuple[VersionServer, VersionServer], model: Path, tmp_path: Path, inner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    two[0].gone_after = PER_STEP // 2 + 2  # in the second step
    policy, updates = policy_at(two, model, inner), list[int]()
    update = policy.learner.update

    def comes_back(*given: Any) -> Any:
        updates.append(0)
        if len(updates) == 3:
            two[0].restart()
        return update(*given)

    monkeypatch.setattr(policy.learner, "update", comes_back)
    with pytest.warns(Notice, match=rf"the server at {two[0].url} is out .*The others draw"):
        rows = train(policy, TURNS, even_length, tmp_path, options(num_steps=4))
    assert [row.metrics["sync/servers"] for row in rows] == [2, 2, 1, 2]
    assert max(row.metrics["policy/sampler_gap_max"] for row in rows) < 1e-4
    assert len(asked_of(two)) == len(set(asked_of(two))) == 4 * PER_STEP, "no sample is drawn twice"
    assert len(two[0].asked) > PER_STEP // 2 + 2, "it draws again after its return"
    assert {(group.step, group.version) for group in groups_of(tmp_path)} == {(n, n) for n in range(4)}


@pytest.mark.parametrize("inner", [LORA, WHOLE])
def test_a_server_that_lost_the_weights_in_a_step_is_left_out(
    two: tuple[VersionServer, VersionServer], model: Path, inner: str
) -> None:
    policy = policy_at(two, model, inner)
    sampler = policy.publish(0)
    expected = [group.completions_G for group in sampler.sample(TURNS, 4, Sampling(max_tokens=4))]
    policy.publisher.outdate()
    sampler = policy.publish(1)
    two[1].restart()
    with pytest.warns(Notice, match="The others draw"):
        groups = list(sampler.sample(TURNS, 4, Sampling(max_tokens=4)))
    assert [group.completions_G for group in groups] == expected, "of the same weights and seeds"
    loaded = len(two[1].loaded)
    policy.publish(2)
    assert len(two[1].loaded) == loaded + 1, "it gets them again"


def test_all_servers_die_and_the_training_goes_on_later(
    two: tuple[VersionServer, VersionServer], model: Path, tmp_path: Path
) -> None:
    for server in two:
        server.gone_after = PER_STEP // 2 + 2
    with pytest.raises(InputError, match="the server is gone: .*What arrived is kept"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(policy_at(two, model, max_tries=1), TURNS, even_length, tmp_path, options())
    for server in two:
        server.restart()
    rows = train(policy_at(two, model), TURNS, even_length, tmp_path, options())
    assert len(rows) == 3 and max(row.metrics["policy/sampler_gap_max"] for row in rows) < 1e-4
    assert len(groups_of(tmp_path)) == 9


def test_a_server_that_is_not_there_at_first_is_a_mistake(model: Path) -> None:
    with VersionServer(model) as one, pytest.raises(InputError, match=r"127\.0\.0\.1:9/v1 cannot be reached"):
        Policy(base_url=[one.url, "http://127.0.0.1:9/v1"], served="m", model=str(model), policy=LORA, max_tries=1)


def test_one_server_with_other_weights_stops_the_training(model: Path, tmp_path: Path) -> None:
    other = save_tiny_model(tmp_path / "other", seed=1)
    with VersionServer(model) as one, VersionServer(other) as two:
        with pytest.raises(InputError, match=rf"canary of version 0 at {two.url}"):
            train(policy_at((one, two), model), TURNS, even_length, tmp_path / "run", options())
        assert not one.asked and not two.asked


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("[]", "or a list of them"),
        ("['http://127.0.0.1:1/v1', 'http://127.0.0.1:1/v1/']", "names a server twice"),
        ("['http://127.0.0.1:1/v1', 3]", "base_url"),
        ("['nowhere']", "no address"),
    ],
)
def test_addresses_that_cannot_be(given: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        plugins.load("policies", f"vllm(base_url={given}, served='m')")
