"""The loop: it learns, drops what teaches nothing, and an interruption changes nothing."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from pivotrl import Action, Message, TrainingOptions, Trajectory, Verdict, cut, train
from pivotrl.policies.hf import Policy as HfPolicy
from pivotrl.policies.tabular import Policy as TabularPolicy
from pivotrl.protocols import InputError, Sampler, Turn
from pivotrl.protocols.observing import Observer
from pivotrl.records import SampleGroup, Sampling
from pivotrl.runs.checkpoints import restore
from pivotrl.storage.record_files import RecordFile
from pivotrl.verifiers.exact import verify
from tiny import save_tiny_model


def logs(num_tasks: int = 4, turns: int = 2) -> list[Trajectory]:
    return [
        Trajectory(
            id=f"log{i}",
            task_id=f"task{i}",
            messages=tuple(
                message
                for t in range(turns)
                for message in (
                    Message(role="user", content=f"question {i}.{t}"),
                    Message(role="assistant", content=f"a{i}{t}"),
                )
            ),
        )
        for i in range(num_tasks)
    ]


def even_length(turn: Turn, action: Action) -> Verdict:
    """A rule that a random model meets about half of the time."""
    return Verdict.passed() if len(action.content or "") % 2 == 0 else Verdict.failed("odd")


def bit_patterns(policy: HfPolicy) -> dict[str, bytes]:
    return {name: p.detach().numpy().tobytes() for name, p in policy.model.named_parameters() if p.requires_grad}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


# A random model rarely stops by itself, and what is cut off fails: with room to stop, some groups have a signal.
SMALL = TrainingOptions(
    num_steps=5, turns_per_step=3, group_size=6, learning_rate=1e-2, train_max_tokens=80, checkpoint_every=2
)


class StopEarly(Exception):
    pass


def stop_at(step: int):
    class Stop(Observer):
        def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
            if done == step:
                raise StopEarly

    return Stop()


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_a_run_that_is_interrupted_at_every_step_ends_with_the_same_bits(
    model: Path, tmp_path: Path, lora_rank: int
) -> None:
    turns, _ = cut(logs())

    def fresh() -> HfPolicy:
        return HfPolicy(model=str(model), lora_rank=lora_rank, dtype="float32", device="cpu")

    whole = fresh()
    metrics = train(whole, turns, even_length, tmp_path / "whole", SMALL)
    assert sum("loss/total" in row.metrics for row in metrics) >= 3
    for step in range(1, SMALL.num_steps + 1):
        with pytest.raises(StopEarly):
            train(fresh(), turns, even_length, tmp_path / "cut", SMALL, stop_at(step))
    again = fresh()
    resumed = train(again, turns, even_length, tmp_path / "cut", SMALL)
    assert bit_patterns(again) == bit_patterns(whole)

    def without_times(rows):
        return [{k: v for k, v in row.metrics.items() if not k.startswith("time/")} for row in rows]

    assert without_times(resumed) == without_times(metrics)
    assert [row.step for row in resumed] == list(range(SMALL.num_steps))
    first, second = ((tmp_path / name / "groups.jsonl").read_bytes() for name in ("whole", "cut"))
    assert first == second  # no sample bought twice, none changed


def test_training_changes_only_what_it_may(model: Path, tmp_path: Path) -> None:
    policy = HfPolicy(model=str(model), lora_rank=4, frozen_layers=1, dtype="float32", device="cpu")
    before = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    train(policy, cut(logs())[0], even_length, tmp_path, SMALL)
    changed = {name for name, p in policy.model.named_parameters() if not torch.equal(p, before[name])}
    assert changed and all("lora_" in name and "layers.1." in name for name in changed)


def test_imitation_makes_the_demonstration_likely(model: Path, tmp_path: Path) -> None:
    policy = HfPolicy(model=str(model), lora_rank=0, dtype="float32", device="cpu")
    options = TrainingOptions(method="sft", num_steps=80, turns_per_step=4, learning_rate=1e-2)
    rows = train(policy, cut(logs(2, 1))[0], verify, tmp_path, options)
    assert rows[-1].metrics["loss/total"] < 0.3 < 3.0 < rows[0].metrics["loss/total"]
    groups = list(policy.sample(cut(logs(2, 1))[0], 1, _greedy()))
    assert {g.completions_G[0].text for g in groups} <= {"a00", "a10"}


def _greedy():
    from pivotrl.records import Sampling

    return Sampling(temperature=0.0, max_tokens=8)


def test_reinforcement_raises_the_reward_on_a_real_network(model: Path, tmp_path: Path) -> None:
    def has_early_letter(turn: Turn, action: Action) -> Verdict:
        return Verdict.passed() if any(c in "abcdefgh" for c in action.content or "") else Verdict.failed("no")

    policy = HfPolicy(model=str(model), lora_rank=0, dtype="float32", device="cpu")
    sft = TrainingOptions(method="sft", num_steps=15, turns_per_step=4, learning_rate=3e-3)
    train(policy, cut(logs())[0], verify, tmp_path / "sft", sft)
    options = TrainingOptions(num_steps=25, turns_per_step=4, group_size=8, learning_rate=3e-3, train_max_tokens=8)
    rows = train(policy, cut(logs())[0], has_early_letter, tmp_path / "rl", options)
    rewards = [row.metrics["reward/mean"] for row in rows]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.1


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_the_kl_term_is_zero_at_the_reference_and_holds_the_policy_near_it(
    model: Path, tmp_path: Path, lora_rank: int
) -> None:
    def drift(coefficient: float) -> tuple[list[float], float]:
        policy = HfPolicy(model=str(model), lora_rank=lora_rank, dtype="float32", device="cpu")
        options = dataclasses.replace(
            SMALL, num_steps=12, train_max_tokens=32, group_size=8, kl_coefficient=coefficient, advantage="group"
        )
        rows = train(policy, cut(logs())[0], even_length, tmp_path / str(coefficient), options)
        kl = policy.score_text("question 0.0", "some answer")[1]
        assert kl is not None
        return [row.metrics["loss/kl"] for row in rows if "loss/kl" in row.metrics], kl

    free, held = drift(1e-9), drift(3.0)
    assert free[0][0] == pytest.approx(0.0, abs=1e-6)
    assert free[0][-1] > 1e-4
    assert held[1] < free[1]


def test_groups_without_signal_are_dropped_and_counted(tmp_path: Path) -> None:
    policy = TabularPolicy()
    rows = train(policy, cut(logs())[0], lambda turn, action: Verdict.failed("never"), tmp_path, SMALL)
    assert all(row.metrics["groups/with_signal"] == 0 and row.metrics["groups/sampled"] == 3 for row in rows)
    assert "loss/total" not in rows[0].metrics


def test_no_verdict_is_left_out_and_counted_never_a_zero(tmp_path: Path) -> None:
    def sometimes(turn: Turn, action: Action) -> Verdict:
        if action == turn.expected_action:
            return Verdict.passed()
        raise ConnectionError("judge is down")

    rows = train(TabularPolicy(), cut(logs())[0], sometimes, tmp_path, SMALL)
    assert all(row.metrics["reward/mean"] in (0.0, 1.0) for row in rows)
    assert sum(row.metrics["samples/without_verdict"] for row in rows) > 0
    assert all(row.metrics["groups/with_signal"] == 0 for row in rows)
    groups = RecordFile(tmp_path / "groups.jsonl", SampleGroup, key=lambda g: f"{g.step}/{g.turn_id}")
    reasons = {v.reason for g in groups for v in g.verdicts_G}
    assert reasons <= {"match", "verifier_error"}


def test_the_policy_that_sampled_is_the_policy_that_learns(model: Path, tmp_path: Path) -> None:
    policy = HfPolicy(model=str(model), lora_rank=4, dtype="float32", device="cpu")
    rows = train(policy, cut(logs())[0], even_length, tmp_path, SMALL)
    trained = [row.metrics for row in rows if "loss/total" in row.metrics]
    assert trained
    for metrics in trained:
        assert metrics["ratio/mean"] == pytest.approx(1.0, abs=1e-6)
        assert metrics["policy/sampler_gap"] < 1e-4


def test_a_checkpoint_with_values_that_are_not_finite_is_never_published(model: Path, tmp_path: Path) -> None:
    policy = HfPolicy(model=str(model), lora_rank=4, dtype="float32", device="cpu")
    next(iter(policy.weights.trained().values())).data.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        policy.save(tmp_path / "step_000001")
    assert not (tmp_path / "step_000001").exists()


def test_a_checkpoint_of_another_rank_is_refused_in_words(model: Path, tmp_path: Path) -> None:
    HfPolicy(model=str(model), lora_rank=4, dtype="float32", device="cpu").save(tmp_path / "c")
    with pytest.raises(ValueError, match="other parameters"):
        HfPolicy(model=str(model), lora_rank=2, dtype="float32", device="cpu").load(tmp_path / "c")


def test_a_damaged_checkpoint_is_refused(model: Path, tmp_path: Path) -> None:
    policy = HfPolicy(model=str(model), lora_rank=4, dtype="float32", device="cpu")
    policy.save(tmp_path / "c")
    file = tmp_path / "c" / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(ValueError, match="damaged"):
        policy.load(tmp_path / "c")
    assert json.loads((tmp_path / "c" / "state.json").read_text())["sha256"]


def test_a_full_disk_in_a_checkpoint_is_told_as_one_and_leaves_nothing(model: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        policy = HfPolicy(model=str(model), lora_rank=8, dtype="float32", device="cpu")
        with pytest.raises(OSError, match="No space left"):
            policy.save(disk / "step_000001")
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_newest_checkpoint_is_taken_by_its_number_and_an_older_one_left_by_a_kill_goes(tmp_path: Path) -> None:
    policy, folder = TabularPolicy(), tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("step_000002", "step_999999", "step_1000000", ".step_1000001.1.tmp"):
        policy.save(folder / name)
    (folder / "step_notes").mkdir()
    assert restore(policy, folder) == 1_000_000
    train(policy, cut(logs())[0], even_length, tmp_path, dataclasses.replace(SMALL, num_steps=1_000_000))
    assert sorted(path.name for path in folder.iterdir()) == [".step_1000001.1.tmp", "step_1000000", "step_notes"]


@pytest.mark.parametrize("kind", ["lora", "tabular"])
def test_half_a_checkpoint_is_refused_and_the_remedy_works(model: Path, tmp_path: Path, kind: str) -> None:
    """Such as an older version left when it was killed."""

    def policy() -> Any:
        return TabularPolicy() if kind == "tabular" else HfPolicy(model=str(model), lora_rank=2, device="cpu")

    turns, verifier = cut(logs())[0], even_length
    options = dataclasses.replace(SMALL, num_steps=2, checkpoint_every=1)
    train(policy(), turns, verifier, tmp_path, options)
    half = tmp_path / "checkpoints" / "step_000002"
    for file in half.iterdir():
        if file.suffix == ".json":
            file.unlink()
    bought = (tmp_path / "groups.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"step_000002 is not a complete checkpoint.* delete it and resume"):
        train(policy(), turns, verifier, tmp_path, options)
    shutil.rmtree(half)
    train(policy(), turns, verifier, tmp_path, options)
    assert (tmp_path / "groups.jsonl").read_bytes() == bought


@pytest.mark.parametrize("kind", ["lora", "full", "tabular"])
def test_the_reference_acts_as_the_policy_did_before_its_first_update(model: Path, tmp_path: Path, kind: str) -> None:
    policy = (
        TabularPolicy()
        if kind == "tabular"
        else HfPolicy(model=str(model), lora_rank=4 * (kind == "lora"), dtype="float32", device="cpu")
    )
    turns, sampling = cut(logs())[0], Sampling(max_tokens=12, seed=3)

    def drawn(sampler: Sampler) -> list[tuple[tuple[int, ...], ...]]:
        return [tuple(c.token_ids_T for c in g.completions_G) for g in sampler.sample(turns, 4, sampling)]

    before = drawn(policy)
    assert drawn(policy.reference) == before
    options = dataclasses.replace(SMALL, num_steps=2, learning_rate=1.0 if kind == "tabular" else 0.1, method="sft")
    train(policy, turns, verify, tmp_path / "train", options)
    assert drawn(policy) != before
    assert drawn(policy.reference) == before
    assert drawn(policy) != before  # asking the reference leaves the policy as it is
