"""A run in several processes is the run of one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from crews import together
from pivotrl import EvaluationOptions, ProfileOptions, SelectionOptions, TrainingOptions, Verdict, run
from pivotrl.judging.lint import CheckOptions
from pivotrl.policies.hf import Policy
from pivotrl.readers.chat import read
from pivotrl.records import SampleGroup, Sampling, Selection, StepMetrics
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
    # What is exported is what other programs load.
    logits = []
    for out in (one, two):
        exported, tokens = out / "train" / "policy", torch.arange(3, 40)[None]
        model = AutoModelForCausalLM.from_pretrained(exported if lora_rank == 0 else folder / "model")
        model = model if lora_rank == 0 else PeftModel.from_pretrained(model, exported)
        logits.append(model.eval()(input_ids=tokens).logits)
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-3, atol=1e-3)


def play(policy):
    """Three turns of three episodes, each of which goes on from what was drawn; and what was prefilled for each."""
    prompts, keys, found = [[5, 6, 7, 8 + i] * 9 for i in range(3)], [f"e{i}" for i in range(3)], []
    with policy.keeping():
        for turn in range(3):
            named = [f"{key}#{turn}" for key in keys]
            drawn = list(policy.generator.generate(prompts, named, 1, Sampling(max_tokens=5, seed=1), frozenset()))
            found.append([(list(each.completions_G[0].token_ids_T), each.num_prefilled_tokens) for each in drawn])
            prompts = [[*p, *each.completions_G[0].token_ids_T, 9] for p, each in zip(prompts, drawn, strict=True)]
    return found


def episodes(crew, model):
    if crew.rank > 0:
        crew.follow(lambda name, given: Policy(**given))
        return None
    with crew.leading():
        return play(Policy(model=model, dtype="float32", device="cpu", lora_rank=0))


def test_episodes_stay_where_their_beginnings_are_kept(folder):
    model = str(folder / "model")
    expected = play(Policy(model=model, dtype="float32", device="cpu", lora_rank=0))
    found, _ = together(2, episodes, model)
    assert [[ids for ids, _ in turn] for turn in found] == [[ids for ids, _ in turn] for turn in expected]
    assert sum(number for _, number in found[0]) > 100  # nothing is kept yet; two of them share three tokens
    assert all(number <= 3 for turn in found[1:] for _, number in turn)


VERIFIER = """
from pivotrl import Verdict

def verify(turn, action):
    passes = (action.content or "z")[0] < "T" or action == turn.expected_action
    return Verdict.passed() if passes else Verdict.failed("high")
"""


def command(folder: Path, out: Path) -> list[str]:
    (folder / "low.py").write_text(VERIFIER)
    words = ["--standalone", "--nproc-per-node", "2", "-m", "pivotrl.cli", "run", str(folder / "logs.jsonl")]
    words += ["-o", str(out), "--model", str(folder / "model"), "--policy", "hf(lora_rank=4)"]
    words += ["--verifier", "low:verify", "--max-false-pass", "1.0", "--num-samples", "8", "--max-tokens", "96"]
    words += ["--max-mean", "1.0", "--num-steps", "4", "--turns-per-step", "4", "--group-size", "8"]
    words += ["--train-max-tokens", "96", "--eval-max-tokens", "6", "--learning-rate", "1e-3"]
    return [sys.executable, "-m", "torch.distributed.run", *words, "--checkpoint-every", "1"]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_run_of_torchrun_whose_process_is_killed_goes_on_as_if_nothing_had_happened(folder, victim):
    whole, out, places = folder / f"whole{victim}", folder / f"killed{victim}", f"{folder}:{os.environ['PYTHONPATH']}"
    given = {"env": {**os.environ, "PYTHONPATH": places}, "text": True}
    subprocess.run(command(folder, whole), check=True, capture_output=True, **given)
    run = subprocess.Popen(command(folder, out), stderr=subprocess.PIPE, stdout=subprocess.PIPE, **given)
    until = time.monotonic() + 200
    while not list((out / "train" / "checkpoints").glob("step_*")):
        assert time.monotonic() < until and run.poll() is None, run.communicate()
        time.sleep(0.01)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    ranks = {}
    for pid in children:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        ranks |= {int(word[5:]): int(pid) for word in words if word.startswith(b"RANK=")}
    os.kill(ranks[victim], signal.SIGKILL)
    _, text = run.communicate(timeout=60)
    assert run.returncode == 1
    told = [line for line in text.splitlines() if line.startswith("pivotrl: process")]
    assert len(told) == 1 and f"process {victim} of 2 (pid {ranks[victim]}) ended unexpectedly" in told[0], text
    subprocess.run([*command(folder, out), "--resume"], check=True, capture_output=True, **given)
    name = "train/policy/adapter_model.safetensors"
    assert (out / name).read_bytes() == (whole / name).read_bytes()
