"""A run in several processes is the run of one process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from crews import together
from pivotrl import EvaluationOptions, ProfileOptions, SelectionOptions, TrainingOptions, Verdict, run
from pivotrl.judging.lint import CheckOptions
from pivotrl.policies.hf import Policy
from pivotrl.readers.chat import read
from pivotrl.records import SampleGroup, Selection, StepMetrics
from pivotrl.storage.record_files import read_records
from test_pipeline import write_logs
from tiny import save_tiny_model


def verify(turn, action):
    passes = (action.content or "z")[0] < "T" or action == turn.expected_action
    return Verdict.passed() if passes else Verdict.failed("high")


verify.in_process = True


def everything(folder: Path, out: Path, **options) -> None:
    policy = Policy(model=str(folder / "model"), dtype="float32", device="cpu", **options)
    run(
        str(folder / "logs.jsonl"),
        out,
        reader=read,
        verifier=verify,
        checking=CheckOptions(max_false_pass=1.0),
        policy=policy,
        retention=[{"id": "0", "source": "s", "prompt": "Question: 1+1?\nAnswer:", "answer": " 2"}],
        profiling=ProfileOptions(num_samples=8, max_tokens=96),
        selection=SelectionOptions(max_mean=1.0),
        training=TrainingOptions(
            num_steps=3, turns_per_step=4, group_size=8, learning_rate=1e-3, train_max_tokens=96, kl_coefficient=0.1
        ),
        evaluation=EvaluationOptions(eval_max_tokens=6),
    )


def work(crew, folder: Path, out: Path, options) -> None:
    if crew.rank == 0:
        with crew.leading():
            everything(folder, out, **options)
    else:
        crew.follow(lambda name, given: Policy(**given))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    save_tiny_model(folder / "model")
    write_logs(folder / "logs.jsonl", 8)
    return folder


@pytest.mark.parametrize(("lora_rank", "name"), [(4, "adapter_model.safetensors"), (0, "model.safetensors")])
def test_two_processes_make_the_same_pivots_and_weights(folder, lora_rank, name):
    one, two = folder / f"one{lora_rank}", folder / f"two{lora_rank}"
    everything(folder, one, lora_rank=lora_rank)
    together(2, work, folder, two, {"lora_rank": lora_rank})

    def records(out, file, kind):
        return read_records(out / file, kind)

    assert records(one, "selection.jsonl", Selection) == records(two, "selection.jsonl", Selection)
    for first, second in zip(*(records(out, "train/groups.jsonl", SampleGroup) for out in (one, two)), strict=True):
        assert [c.token_ids_T for c in first.completions_G] == [c.token_ids_T for c in second.completions_G]
    for first, second in zip(*(records(out, "train/metrics.jsonl", StepMetrics) for out in (one, two)), strict=True):
        assert first.metrics.keys() == second.metrics.keys()
        for key, value in first.metrics.items():
            if not key.startswith(("time/", "tokens/computed", "prompts/computed")):
                assert second.metrics[key] == pytest.approx(value, rel=1e-3, abs=1e-4), key
    mine, other = (load_file(out / "train" / "policy" / name) for out in (one, two))
    assert mine.keys() == other.keys()
    for key, tensor in mine.items():
        torch.testing.assert_close(other[key], tensor, rtol=1e-3, atol=1e-4)
