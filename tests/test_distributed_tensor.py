"""Tensor parallelism: processes that each have a part of every layer train as one process does."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from architectures import save
from crews import together
from pivotrl import TrainingOptions, cut, plugins, train
from pivotrl.engine.generation import LocalGenerator
from pivotrl.policies.hf import Policy
from pivotrl.protocols import InputError, ProcessLost
from pivotrl.records import SampleGroup
from pivotrl.storage.record_files import RecordFile
from test_training import even_length, logs
from tiny import save_tiny_model

TURNS = cut(logs(3, 2))[0]
OPTIONS = TrainingOptions(
    num_steps=3, turns_per_step=3, group_size=4, learning_rate=1e-3, train_max_tokens=14, kl_coefficient=0.1
)
GIVEN: dict[str, Any] = {"lora_rank": 0, "dtype": "float32", "device": "cpu"}


def learn(out: Path, model: Path, num_steps: int = 3, **given: Any) -> tuple[Any, ...]:
    policy = Policy(model=str(model), **GIVEN, **given)
    options = TrainingOptions(**{**OPTIONS.__dict__, "num_steps": num_steps, "checkpoint_every": 1})
    rows = train(policy, TURNS, even_length, out, options)
    policy.export(out / "policy")
    text = policy.score_text("Question: 1+1?\nAnswer:", " 2")
    return [row.metrics for row in rows], text


def work(crew, *given, **more) -> Any:
    if crew.rank == 0:
        with crew.leading():
            return learn(*given, **more)
    crew.follow(lambda name, given: plugins.load("policies", name, **given))
    return None


def in_two(out: Path, model: Path, num_steps: int = 3) -> tuple[Any, ...]:
    return together(2, tensor_work, out, model, num_steps)[0]


def tensor_work(crew, out, model, num_steps) -> Any:
    return work(crew, out, model, num_steps, parallel="tensor")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def groups_of(folder: Path) -> list[list[Any]]:
    return [[c.token_ids_T for c in group.completions_G] for group in RecordFile(folder / "groups.jsonl", SampleGroup)]


def test_it_trains_as_one_process_does(model: Path, tmp_path: Path) -> None:
    (rows, text), (cut_rows, cut_text) = learn(tmp_path / "one", model), in_two(tmp_path / "two", model)
    assert groups_of(tmp_path / "one") == groups_of(tmp_path / "two")
    for row, other in zip(rows, cut_rows, strict=True):
        assert row.keys() == other.keys()
        for name, value in row.items():
            if not name.startswith("time/"):
                assert other[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
    assert cut_text == pytest.approx(text, rel=1e-3, abs=1e-5)
    one, two = (load_file(tmp_path / name / "policy" / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-4)
    configs = [(tmp_path / name / "policy" / "config.json").read_text() for name in ("one", "two")]
    assert configs[0] == configs[1]


@pytest.mark.slow
def test_its_checkpoints_go_on_in_one_process_and_the_other_way_round(model: Path, tmp_path: Path) -> None:
    whole = learn(tmp_path / "whole", model)[0]
    in_two(tmp_path / "cut", model, num_steps=2)
    learn(tmp_path / "cut", model)
    learn(tmp_path / "one", model, num_steps=2)
    in_two(tmp_path / "one", model)
    tensors = [load_file(tmp_path / name / "policy" / "model.safetensors") for name in ("whole", "cut", "one")]
    for name, tensor in tensors[0].items():
        for other in tensors[1:]:
            torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=1e-4)
    assert len(whole) == 3


def with_heads(name: str, folder: Path, heads: int) -> Path:
    """A model with twice as many heads as heads of keys and values."""
    save(name, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    config = model.config.get_text_config()
    config.num_attention_heads, config.num_key_value_heads = 2 * heads, heads
    type(model)(model.config).save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen3", "gemma3"])
def test_other_families_are_cut_too(name: str, tmp_path: Path) -> None:
    model = with_heads(name, tmp_path / "model", 2)
    (rows, _), (cut_rows, _) = learn(tmp_path / "one", model, 1), in_two(tmp_path / "two", model, 1)
    assert groups_of(tmp_path / "one") == groups_of(tmp_path / "two")
    assert cut_rows[0]["gradient/norm"] == pytest.approx(rows[0]["gradient/norm"], rel=1e-3)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"parallel": "tensor"}, "needs several processes"),
        ({"parallel": "tensor", "lora_rank": 4}, "needs lora_rank=0, not 4"),
        ({"parallel": "tensor", "offload": True}, "needs offload=False"),
    ],
)
def test_options_that_do_not_go_together(model: Path, given: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Policy(model=str(model), **{**GIVEN, **given})


def refused(crew, model: Path) -> str:
    try:
        tensor_work(crew, model / "out", model, 1)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("name", "heads", "told"),
    [
        ("gpt2", 2, "transformers has no plan to cut the layers"),
        ("qwen3", 1, "its num_key_value_heads is 1"),
        ("qwen3_moe", 2, "pieces that do not lie side by side"),
    ],
)
def test_a_model_that_cannot_be_cut_is_refused(name: str, heads: int, told: str, tmp_path: Path) -> None:
    model = save(name, tmp_path / "model") if name == "gpt2" else with_heads(name, tmp_path / "model", heads)
    assert told in together(2, refused, model)[0]


def struck(crew, model: Path, fault: str, told: str) -> None:
    """A process that does not lead is killed, or runs out of memory, when all sample."""

    def strike(*_: Any) -> None:
        if fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise torch.OutOfMemoryError

    if crew.rank == 1:
        LocalGenerator.generate = strike
    with pytest.raises(ProcessLost, match=told):
        tensor_work(crew, model / "out", model, 1)


@pytest.mark.parametrize(
    ("fault", "told"),
    [("killed", "process 1 of 2 .* ended unexpectedly"), ("memory", "process 1 of 2: out of memory in process 1; let")],
)
def test_a_process_that_is_lost_in_the_middle_ends_the_training(model: Path, fault: str, told: str) -> None:
    with pytest.raises(AssertionError, match="process 1 of 2: it ended without an answer"):  # and process 0 did answer
        together(2, struck, model, fault, told)
