"""A policy whose samples a server draws: its weights arrive, or the training stops and says why.

The server is ours (`version_server.py`) and runs a tiny model with transformers; `test_vllm_training.py` has a real
vLLM.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

pytest.importorskip("httpx", reason="needs the extra 'judge'")

from pivotrl import TrainingOptions, cut, train
from pivotrl.policies.hf import Policy as HfPolicy
from pivotrl.policies.vllm import Policy
from pivotrl.protocols import InputError
from pivotrl.records import SampleGroup, Sampling
from pivotrl.storage.record_files import RecordFile
from pivotrl.training import Step
from test_endpoint import direct as direct
from test_training import bit_patterns, even_length, logs, stop_at
from tiny import save_tiny_model
from version_server import VersionServer, seeds

TURNS = cut(logs(3, 2))[0]


def options(**more: Any) -> TrainingOptions:
    given = {"num_steps": 3, "turns_per_step": 3, "group_size": 4, "learning_rate": 1e-2, "train_max_tokens": 14}
    return TrainingOptions(**{**given, "checkpoint_every": 2, **more})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that ends a sample with any of many tokens, so that most samples end and groups have a signal."""
    folder = save_tiny_model(tmp_path_factory.mktemp("tiny"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ends = [token for token, number in tokenizer.get_vocab().items() if number > 210]  # no letters, no digits
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", *ends]})
    tokenizer.save_pretrained(folder)
    file = folder / "generation_config.json"
    numbers = sorted(tokenizer.convert_tokens_to_ids(ends))
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": [2, *numbers]}))
    return folder


@pytest.fixture
def server(model: Path) -> Iterator[VersionServer]:
    with VersionServer(model) as running:
        yield running


LORA = "hf(lora_rank=4, dtype='float32', device='cpu')"
WHOLE = "hf(lora_rank=0, dtype='float32', device='cpu')"


def policy_at(server: VersionServer, model: Path, inner: str = LORA, **more: Any) -> Policy:
    given = {"served": "m", "choices": "single", "deadline_seconds": 60.0, "max_tries": 2, "max_in_flight": 4}
    return Policy(base_url=server.url, policy=inner, model=str(model), **{**given, **more})


def groups_of(folder: Path) -> list[SampleGroup]:
    return list(RecordFile(folder / "groups.jsonl", SampleGroup))


@pytest.mark.parametrize("inner", [LORA, WHOLE])
def test_every_update_reaches_the_server(server: VersionServer, model: Path, tmp_path: Path, inner: str) -> None:
    policy = policy_at(server, model, inner)
    rows = train(policy, TURNS, even_length, tmp_path, options())
    for number, row in enumerate(rows):
        assert row.metrics["policy/sampler_gap_max"] < 1e-4, "the server acts with the learner's weights"
        assert row.metrics["sync/canary_gap"] < 1e-4 and row.metrics["samples/max_lag"] == 0
        assert 0 <= row.metrics["importance/capped_fraction"] <= 1 and row.metrics["importance/mean"] == pytest.approx(
            1, abs=1e-3
        )
        assert {group.version for group in groups_of(tmp_path) if group.step == number} == {number}
    assert len(set(server.loaded)) == server.num_resets == 3
    assert len(server.adapters) == (inner == LORA), "older adapters are unloaded"
    assert not (tmp_path / "drawn").exists()


def test_it_learns_what_the_local_policy_learns_from_the_same_samples(
    server: VersionServer, model: Path, tmp_path: Path
) -> None:
    policy = policy_at(server, model)
    train(policy, TURNS, even_length, tmp_path / "served", options())
    (tmp_path / "local").mkdir()
    shutil.copy(tmp_path / "served" / "groups.jsonl", tmp_path / "local")
    local = HfPolicy(model=str(model), lora_rank=4, dtype="float32", device="cpu")
    train(local, TURNS, even_length, tmp_path / "local", options(importance_cap=5.0))
    assert bit_patterns(local) == bit_patterns(policy.learner.weights)
    assert local.identity == policy.identity, "a profile of one serves the other"


@pytest.mark.parametrize(
    ("fault", "inner"),
    [("stale", LORA), ("stale", WHOLE), ("keeps_cache", WHOLE), ("keeps_cache", LORA), ("other_logprobs", LORA)],
)
def test_a_server_with_other_weights_is_stopped_by_the_canary(
    model: Path, tmp_path: Path, fault: str, inner: str
) -> None:
    with VersionServer(model, fault=fault) as server:
        policy = policy_at(server, model, inner)
        with pytest.raises(InputError, match=r"canary of version 1 at http.*nats") as told:
            train(policy, TURNS, even_length, tmp_path, options())
    assert "the server still acts with the old weights" in str(told.value)
    assert {group.version for group in groups_of(tmp_path)} == {0}, "nothing was drawn with wrong weights"


def test_a_step_within_the_tolerance_is_missed_by_it_but_not_by_the_comparison_of_versions(
    model: Path, tmp_path: Path
) -> None:
    with VersionServer(model, fault="stale") as server:
        policy = policy_at(server, model, tolerance=5.0)
        with pytest.raises(InputError, match="the server still acts with the old weights"):
            train(policy, TURNS, even_length, tmp_path, options(learning_rate=1e-3))


def test_the_wrong_base_model_is_refused_before_anything_is_sampled(model: Path, tmp_path: Path) -> None:
    with VersionServer(save_tiny_model(tmp_path / "other", seed=1)) as server:
        with pytest.raises(InputError, match=r"canary of version 0 .*Serve .* in the precision of the learner"):
            train(policy_at(server, model), TURNS, even_length, tmp_path / "run", options())
        assert not server.asked


@pytest.mark.parametrize(
    ("given", "inner", "told"),
    [
        ({"lora": False}, LORA, "status 404.*VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"),
        ({"dev": False}, WHOLE, "status 404.*VLLM_SERVER_DEV_MODE=1"),
        ({"max_adapters": 0}, LORA, "No free lora slots.*--max-lora-rank"),
    ],
)
def test_a_server_that_takes_no_weights_is_told_how_to_start(
    model: Path, tmp_path: Path, given: dict[str, Any], inner: str, told: str
) -> None:
    with VersionServer(model, **given) as server:
        policy = policy_at(server, model, inner)
        with pytest.raises(InputError, match=told):
            train(policy, TURNS, even_length, tmp_path, options())


def test_a_full_table_names_the_adapters_of_earlier_trainings(model: Path, tmp_path: Path) -> None:
    with VersionServer(model, max_adapters=2) as server:
        others = [policy_at(server, model) for _ in range(3)]
        for number, policy in enumerate(others[:2]):
            policy.publish(number)
        with pytest.raises(InputError, match="2 adapters of earlier trainings.*unload_lora_adapter"):
            others[2].publish(0)


def test_adapters_need_no_developer_mode(model: Path, tmp_path: Path) -> None:
    with VersionServer(model, dev=False) as server:
        rows = train(policy_at(server, model), TURNS, even_length, tmp_path, options(num_steps=2))
        assert rows[1].metrics["sync/cache_reset"] == 0
        assert len({body["cache_salt"] for body in server.bodies}) == 2, "the name keeps their caches apart"


def test_the_next_step_is_sampled_while_the_update_runs(
    server: VersionServer, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_at(server, model)
    update, draw_ahead, overlapped = policy.learner.update, Step.draw_ahead, list[bool]()

    def held(self: Step, turns: Any) -> None:
        server.waiting.clear()
        server.may_answer.clear()
        draw_ahead(self, turns)

    def slow(*given: Any) -> Any:
        overlapped.append(server.waiting.wait(10))  # the next step is asked for, and has no answer
        metrics = update(*given)
        server.may_answer.set()
        return metrics

    monkeypatch.setattr(Step, "draw_ahead", held)
    monkeypatch.setattr(policy.learner, "update", slow)
    rows = train(policy, TURNS, even_length, tmp_path, options(sample_ahead=True, num_steps=3))
    assert overlapped[:2] == [True, True]
    assert [row.metrics["samples/max_lag"] for row in rows] == [0, 1, 1]
    for step, version in ((0, 0), (1, 0), (2, 1)):
        assert {group.version for group in groups_of(tmp_path) if group.step == step} == {version}


@pytest.mark.parametrize("ahead", [False, True])
def test_an_interruption_at_every_step_buys_nothing_twice_and_changes_nothing(
    server: VersionServer, model: Path, tmp_path: Path, ahead: bool
) -> None:
    whole = policy_at(server, model)
    train(whole, TURNS, even_length, tmp_path / "whole", options(sample_ahead=ahead))
    asked = seeds(server.asked)
    assert len(asked) == len(set(asked))
    server.bodies.clear()
    for step in range(1, 4):
        with pytest.raises(Exception, match="^$"):
            train(
                policy_at(server, model),
                TURNS,
                even_length,
                tmp_path / "cut",
                options(sample_ahead=ahead),
                stop_at(step),
            )
    again = policy_at(server, model)
    train(again, TURNS, even_length, tmp_path / "cut", options(sample_ahead=ahead))
    if not ahead:  # a sample that is under way when the process ends is asked for again
        assert sorted(seeds(server.asked)) == sorted(asked)
        assert bit_patterns(again.learner.weights) == bit_patterns(whole.learner.weights)
    for group in groups_of(tmp_path / "cut"):
        assert group.step is not None and group.version in (group.step, max(0, group.step - ahead))


def test_a_server_that_goes_and_comes_back(server: VersionServer, model: Path, tmp_path: Path) -> None:
    server.gone_after = 12 + 5  # in the second step
    with pytest.raises(InputError, match="the server is gone: .* for step 1 .*What arrived is kept"):
        train(policy_at(server, model), TURNS, even_length, tmp_path, options())
    kept = seeds(server.asked)
    server.restart()
    rows = train(policy_at(server, model), TURNS, even_length, tmp_path, options())
    assert len(rows) == 3 and max(row.metrics["policy/sampler_gap_max"] for row in rows) < 1e-4
    stored = {f"{group.step}/{group.turn_id}" for group in groups_of(tmp_path)}
    assert len(stored) == 9
    again = [seed for seed in seeds(server.asked)[len(kept) :] if seed in kept]
    assert len(again) <= 2 * 4, "only turns that were under way are asked for again"


@pytest.mark.parametrize("inner", [LORA, WHOLE])
def test_a_server_that_was_started_again_gets_the_weights_again(server: VersionServer, model: Path, inner: str) -> None:
    policy = policy_at(server, model, inner)
    policy.publish(0)
    server.restart()
    policy.publish(0)
    assert len(server.loaded) == 2
    policy.publish(0)
    assert len(server.loaded) == 2, "and no more often than needed"


@pytest.mark.parametrize("inner", [LORA, WHOLE])
def test_samples_of_a_server_that_lost_the_weights_meanwhile_are_refused(
    server: VersionServer, model: Path, inner: str
) -> None:
    sampler = policy_at(server, model, inner).publish(0)
    assert len(list(sampler.sample(TURNS[:1], 2, Sampling(max_tokens=4)))) == 1
    server.restart()
    with pytest.raises(InputError, match="lost the weights|no such endpoint or model"):
        list(sampler.sample(TURNS[:1], 2, Sampling(max_tokens=4)))


def test_samples_of_too_old_a_version_are_refused(server: VersionServer, model: Path, tmp_path: Path) -> None:
    policy = policy_at(server, model)
    with pytest.raises(Exception, match="^$"):
        train(policy, TURNS, even_length, tmp_path, options(checkpoint_every=1), stop_at(2))
    old = [group for group in groups_of(tmp_path) if group.step == 0]
    (tmp_path / "groups.jsonl").unlink()
    drawn = RecordFile(tmp_path / "drawn" / "step_000002.jsonl", SampleGroup)
    drawn.append(group.model_copy(update={"step": 2, "verdicts_G": ()}) for group in old)
    every = options(checkpoint_every=1, turns_per_step=len(TURNS))
    with pytest.raises(InputError, match="version 0, 2 updates behind, and --max-lag allows 1"):
        train(policy_at(server, model), TURNS, even_length, tmp_path, every)
    train(policy_at(server, model), TURNS, even_length, tmp_path, options(max_lag=2, turns_per_step=len(TURNS)))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"sample_ahead": True, "max_lag": 0}, "--sample-ahead .*give --max-lag 1"),
        ({"sample_ahead": True, "method": "lazy"}, "acts at the turns of its batch alone, .* not lazy"),
    ],
)
def test_options_that_cannot_be(given: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        options(**given)


def test_a_local_policy_cannot_draw_ahead(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--policy vllm"):
        train(HfPolicy(model=str(model), device="cpu"), TURNS, even_length, tmp_path, options(sample_ahead=True))


def test_another_temperature_needs_the_log_probabilities_of_what_was_sampled(
    server: VersionServer, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="processed_logprobs"):
        train(policy_at(server, model), TURNS, even_length, tmp_path, options(train_temperature=0.8))


def test_a_policy_without_a_learner_of_tokens_is_refused(server: VersionServer) -> None:
    with pytest.raises(InputError, match="token_logprobs"):
        Policy(base_url=server.url, served="m", policy="tabular")
    with pytest.raises(InputError, match="cannot be vllm again"):
        Policy(base_url=server.url, served="m", policy="vllm(base_url='x', served='m')")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "vLLM is not installed in this environment"),
        ({"python": "/dev/null"}, "is no program"),
        ({"base_url": "http://127.0.0.1:9/v1"}, "needs base_url and served together"),
        ({"served": "m"}, "needs base_url and served together"),
        ({"base_url": "http://127.0.0.1:9/v1", "served": "m", "python": "python"}, "leave them or base_url out"),
        ({"arguments": "--max-model-len 8"}, "a list of texts"),
        ({"policy": "hf(lora_rank=600, dtype='float32')", "python": sys.executable}, "lora_rank must be at most"),
    ],
)
def test_a_server_of_its_own_that_cannot_start(model: Path, given: dict[str, Any], told: str) -> None:
    if importlib.util.find_spec("vllm") and not given:
        pytest.skip("it is installed here")
    with pytest.raises(InputError, match=told):
        Policy(**{"policy": LORA, "model": str(model), **given})


def test_a_server_that_ends_at_once_is_reported_with_its_last_error(model: Path) -> None:
    with pytest.raises(InputError, match=r"vLLM ended with code 1 .*No module named 'vllm'|is not installed"):
        Policy(python=sys.executable, policy=LORA, model=str(model))
