"""The whole way, end to end: with the tabular policy in a second, with a real network in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pivotrl import EvaluationOptions, InputError, ProfileOptions, SelectionOptions, TrainingOptions, run
from pivotrl.judging.lint import CheckOptions
from pivotrl.policies.hf import Policy as HfPolicy
from pivotrl.policies.tabular import Policy as TabularPolicy
from pivotrl.protocols import NoPivots, NotRenderable, Turn
from pivotrl.readers.chat import read
from pivotrl.records import (
    Action,
    Completion,
    Message,
    SampleGroup,
    Selection,
    SkippedTurn,
    StepMetrics,
    Trajectory,
    Verdict,
)
from pivotrl.runs.manifest import read_manifest
from pivotrl.stages.training import train_stage
from pivotrl.storage.record_files import read_records
from pivotrl.verifiers.exact import verify
from tiny import save_tiny_model


def write_logs(path: Path, num_tasks: int = 20, reward: float | None = 1.0) -> Path:
    with path.open("w") as file:
        for i in range(num_tasks):
            messages = [{"role": "system", "content": "You answer."}]
            for t in range(3):
                messages += [
                    {"role": "user", "content": f"q{i}.{t}"},
                    {"role": "assistant", "content": f"answer {i}.{t}"},
                ]
            row = {"id": f"log{i}", "task_id": f"task{i}", "messages": messages}
            file.write(json.dumps(row if reward is None else {**row, "reward": reward}) + "\n")
    return path


TABULAR = {
    "reader": read,
    "verifier": verify,
    "profiling": ProfileOptions(num_samples=8),
    "training": TrainingOptions(num_steps=40, turns_per_step=8, group_size=8, learning_rate=2.0),
    "evaluation": EvaluationOptions(eval_temperature=1.0),
}


def test_logs_become_a_better_policy_and_a_report(tmp_path: Path) -> None:
    out = tmp_path / "run"
    summary = run(str(write_logs(tmp_path / "logs.jsonl")), out, policy=TabularPolicy(), **TABULAR)
    assert summary.complete
    train, heldout = (read_records(out / f"{n}.jsonl", Trajectory) for n in ("trajectories", "heldout"))
    assert len(train) + len(heldout) == 20 and heldout
    assert {t.task_id for t in train}.isdisjoint(t.task_id for t in heldout)
    groups = read_records(out / "profiles.jsonl", SampleGroup)
    assert len(groups) == 3 * len(train) and all(len(g.completions_G) == 8 for g in groups)
    rows = read_records(out / "selection.jsonl", Selection)
    by_turn = {g.turn_id: g for g in groups}
    for row in rows:
        mean, variance = by_turn[row.turn_id].mean, by_turn[row.turn_id].variance
        assert row.selected == (variance > 0 and mean < 0.6)
    metrics = [json.loads(line) for line in (out / "train" / "metrics.jsonl").read_text().splitlines()]
    rewards = [m["metrics"]["reward/mean"] for m in metrics]
    assert sum(rewards[-5:]) > sum(rewards[:5]) + 0.5
    assert (out / "report.html").stat().st_size > 10_000
    checked, report = json.loads((out / "check.json").read_text()), (out / "report.html").read_text()
    accepted = checked["accepts_expected"]
    assert accepted["count"] == accepted["num_probes"] == checked["num_turns"] > 0
    assert "What the verifier accepts" in report
    assert f"{checked['false_pass']['count']} of {checked['false_pass']['num_probes']:,}" in report
    profile = read_manifest(out / "profile.manifest.json")
    assert profile.num_rollout_turns == 8 * len(groups)
    trained = sum(m["metrics"]["samples/total"] for m in metrics)
    assert summary.total_rollout_turns == profile.num_rollout_turns + trained


def test_a_real_network_runs_every_stage(tmp_path: Path) -> None:
    out = tmp_path / "run"
    policy = HfPolicy(model=str(save_tiny_model(tmp_path / "model")), lora_rank=4, dtype="float32", device="cpu")

    def starts_low(turn, action):
        from pivotrl import Verdict

        passes = (action.content or "z")[0] < "T" or action == turn.expected_action
        return Verdict.passed() if passes else Verdict.failed("high")

    summary = run(
        str(write_logs(tmp_path / "logs.jsonl")),
        out,
        reader=read,
        verifier=starts_low,
        checking=CheckOptions(max_false_pass=1.0),  # it pays for half of what a random network writes
        policy=policy,
        retention=[
            {"id": str(i), "source": "s", "prompt": f"Question: 1+{i}?\nAnswer:", "answer": f" {i + 1}"}
            for i in range(4)
        ],
        # A random model rarely stops by itself, and what is cut off fails: give it room to.
        profiling=ProfileOptions(num_samples=8, max_tokens=96),
        selection=SelectionOptions(max_mean=1.0),
        training=TrainingOptions(num_steps=3, turns_per_step=4, group_size=8, learning_rate=1e-2, train_max_tokens=96),
        evaluation=EvaluationOptions(eval_max_tokens=6),
    )
    assert summary.complete
    assert [c.name for c in summary.comparisons] == ["held-out turns", "retention"]
    rows = [row.metrics for row in read_records(out / "train" / "metrics.jsonl", StepMetrics)]
    updates = [row for row in rows if "tokens/computed" in row]
    assert updates and all(row["tokens/unshared"] > row["tokens/computed"] > row["tokens/trained"] for row in updates)
    assert summary.kl_to_reference is not None and summary.kl_to_reference.mean > 0
    assert (out / "train" / "policy" / "adapter_config.json").is_file()
    described = read_manifest(out / "train.manifest.json").policy
    assert described["policy"] == "hf(device='cpu', dtype='float32', lora_rank=4)"
    assert described["model"] == str(tmp_path / "model")
    assert (described["dtype"], described["device"]) == ("float32", "cpu")
    assert str(tmp_path / "model") in (out / "report.html").read_text()
    before = (out / "evaluations" / "before.retention.jsonl").read_text()
    assert '"kl":0.0' in before


def test_a_finished_run_does_no_work_again(tmp_path: Path) -> None:
    logs = str(write_logs(tmp_path / "logs.jsonl"))
    run(logs, tmp_path / "run", policy=TabularPolicy(), **TABULAR)
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*.jsonl")}

    class Untouchable(TabularPolicy):
        def sample(self, *arguments, **options):
            raise AssertionError("a sample was bought twice")

    run(logs, tmp_path / "run", policy=Untouchable(), resume=True, **TABULAR)
    assert files == {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*.jsonl")}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"profiling": ProfileOptions(num_samples=4)}, "num_samples: was 8, now 4"),
        ({"policy": TabularPolicy(seed=1)}, "policy, seed: was 0, now 1"),
    ],
)
def test_a_profile_is_never_mixed_with_another(tmp_path: Path, change: dict, told: str) -> None:
    logs = str(write_logs(tmp_path / "logs.jsonl"))
    run(logs, tmp_path / "run", policy=TabularPolicy(), **TABULAR)
    with pytest.raises(InputError, match=told):
        run(logs, tmp_path / "run", **{"policy": TabularPolicy(), **TABULAR, **change}, resume=True)


def test_changed_logs_are_refused_on_resume(tmp_path: Path) -> None:
    logs = write_logs(tmp_path / "logs.jsonl")
    run(str(logs), tmp_path / "run", policy=TabularPolicy(), **TABULAR)
    write_logs(logs, num_tasks=21)
    with pytest.raises(InputError, match="logs.jsonl"):
        run(str(logs), tmp_path / "run", policy=TabularPolicy(), resume=True, **TABULAR)


def test_failed_trajectories_are_left_out_by_default(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no trajectory to train on"):
        run(str(write_logs(tmp_path / "logs.jsonl", reward=0.0)), tmp_path / "a", policy=TabularPolicy(), **TABULAR)
    run(str(write_logs(tmp_path / "logs.jsonl", reward=None)), tmp_path / "b", policy=TabularPolicy(), **TABULAR)
    assert read_manifest(tmp_path / "b" / "read.manifest.json").counts["losses"]["reward_unknown"] == 20


def test_a_context_longer_than_the_model_is_refused_with_a_count_and_never_cut(tmp_path: Path) -> None:
    logs = write_logs(tmp_path / "logs.jsonl")
    rows = [json.loads(line) for line in logs.read_text().splitlines()]
    for row in rows[::2]:
        row["messages"][1]["content"] = "long " * 200
    logs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    policy = HfPolicy(
        model=str(save_tiny_model(tmp_path / "model", max_positions=300)), lora_rank=2, dtype="float32", device="cpu"
    )
    with pytest.raises(InputError, match="pivots"):  # an exact match never happens with random weights
        run(
            str(logs),
            tmp_path / "run",
            reader=read,
            verifier=verify,
            policy=policy,
            profiling=ProfileOptions(num_samples=2, max_tokens=4),
        )
    skipped = read_records(tmp_path / "run" / "skipped.jsonl", SkippedTurn)
    assert skipped and {s.reason for s in skipped} == {"context_too_long"}
    groups = read_records(tmp_path / "run" / "profiles.jsonl", SampleGroup)
    assert groups and all(g.num_prompt_tokens <= 296 for g in groups)


def test_a_demonstration_longer_than_the_model_is_not_imitated(tmp_path: Path) -> None:
    policy = HfPolicy(
        model=str(save_tiny_model(tmp_path / "model", max_positions=100)), lora_rank=2, dtype="float32", device="cpu"
    )
    messages = (Message(role="user", content="hi"), Message(role="assistant", content="long " * 20))
    turn = Turn(Trajectory(id="a", task_id="t", messages=messages), 1)
    assert policy.encode_action(turn, Action(content="short")).finish_reason == "stop"
    with pytest.raises(NotRenderable, match="tokens with the action exceed the model's context of 100"):
        policy.encode_action(turn, turn.expected_action)


def test_turns_that_the_chat_template_cannot_write_are_skipped_with_that_reason(tmp_path: Path) -> None:
    class Narrow(TabularPolicy):
        def fits(self, turn: Turn, max_tokens: int) -> bool:
            if turn.index == 4:
                raise NotRenderable("the template has no place for it")
            return super().fits(turn, max_tokens)

    run(str(write_logs(tmp_path / "logs.jsonl")), tmp_path / "run", policy=Narrow(), **TABULAR)
    skipped = read_records(tmp_path / "run" / "skipped.jsonl", SkippedTurn)
    assert {(skip.turn_id.partition("#")[2], skip.reason) for skip in skipped} == {("4", "not_renderable")}
    assert {skip.detail for skip in skipped} == {"the template has no place for it"}


def test_a_template_that_refuses_every_turn_says_why(tmp_path: Path) -> None:
    class Refusing(TabularPolicy):
        def fits(self, turn: Turn, max_tokens: int) -> bool:
            if turn.trajectory.id == "log0":
                return False
            raise NotRenderable(f"the chat template refuses: messages[{turn.index - 1}] is a system message")

    with pytest.raises(InputError) as caught:
        run(str(write_logs(tmp_path / "logs.jsonl")), tmp_path / "run", policy=Refusing(), **TABULAR)
    told = str(caught.value)
    assert " not_renderable, the chat template refuses: messages[1] is a system message (such as log" in told
    assert "3 context_too_long (such as log0#2)" in told and told.count("the chat template refuses") == 1
    assert "a longer context" in told and "a model whose chat template writes them" in told


def test_imitation_leaves_out_what_the_chat_template_cannot_write_and_counts_it(tmp_path: Path) -> None:
    class Mute(TabularPolicy):
        def encode_action(self, turn: Turn, action: Action) -> Completion:
            if turn.index == 4:
                raise NotRenderable("the template has no place for it")
            return super().encode_action(turn, action)

    training = TrainingOptions(method="sft", num_steps=20, turns_per_step=8)
    run(
        str(write_logs(tmp_path / "logs.jsonl")),
        tmp_path / "run",
        policy=Mute(),
        **{**TABULAR, "training": training, "selection": SelectionOptions(rule="all")},
    )
    rows = read_records(tmp_path / "run" / "train" / "metrics.jsonl", StepMetrics)
    assert 0 < sum(row.metrics["groups/not_renderable"] for row in rows) < 20 * 8


def even_or_demonstrated(turn: Turn, action: Action) -> Verdict:
    """Something that a network with random weights is paid for now and then."""
    passes = len(action.content or "") % 2 == 0 or action == turn.expected_action
    return Verdict.passed() if passes else Verdict.failed("odd")


def test_one_prefill_profiles_a_whole_trajectory(tmp_path: Path) -> None:
    """Six turns of eight samples each: as many prompt tokens as the trajectory is long, and the report says so."""
    path = tmp_path / "logs.jsonl"
    with path.open("w") as file:
        for i in range(6):
            messages = [{"role": "system", "content": f"You are agent {i}. " * 20}]
            for t in range(6):
                messages += [
                    {"role": "user", "content": f"{i} asks {t} " * 9},
                    {"role": "assistant", "content": f"answer {i}.{t} " * 4},
                ]
            file.write(json.dumps({"id": f"log{i}", "task_id": f"task{i}", "messages": messages, "reward": 1}) + "\n")
    policy = HfPolicy(model=str(save_tiny_model(tmp_path / "model", max_positions=4096)), dtype="float32", device="cpu")
    out = tmp_path / "run"
    run(
        str(path),
        out,
        reader=read,
        verifier=even_or_demonstrated,
        checking=CheckOptions(max_false_pass=1.0),
        policy=policy,
        profiling=ProfileOptions(num_samples=8, max_tokens=4, batch_turns=2),
        selection=SelectionOptions(rule="all"),
        training=TrainingOptions(num_steps=2, turns_per_step=4, group_size=4, train_max_tokens=4),
        evaluation=EvaluationOptions(heldout_turns=2, eval_max_tokens=4),
    )
    groups = read_records(out / "profiles.jsonl", SampleGroup)
    longest: dict[str, int] = {}
    for group in groups:
        name = group.turn_id.partition("#")[0]
        longest[name] = max(longest.get(name, 0), group.num_prompt_tokens)
    computed = sum(group.num_prefilled_tokens for group in groups)
    assert sum(longest.values()) * 0.5 < computed <= 1.05 * sum(longest.values())
    counts = read_manifest(out / "profile.manifest.json").counts["prompt_tokens"]
    assert counts == {"unshared": 8 * sum(group.num_prompt_tokens for group in groups), "computed": computed}
    rows = read_records(out / "train" / "metrics.jsonl", StepMetrics)
    for row in rows:
        assert row.metrics["prompts/unshared"] > 4 * row.metrics["prompts/computed"] > 0
    report = (out / "report.html").read_text()
    assert "Shared prefixes were computed once" in report and "times fewer" in report


def test_a_training_is_not_resumed_with_another_adapter(tmp_path: Path) -> None:
    class Sized(TabularPolicy):
        rank = 2

        @property
        def training_identity(self) -> dict[str, int]:
            return {"lora_rank": self.rank}

    run(str(write_logs(tmp_path / "logs.jsonl")), tmp_path / "run", policy=Sized(), **TABULAR)
    other = Sized()
    other.rank = 4
    with pytest.raises(InputError, match="lora_rank: was 2, now 4"):
        run(str(tmp_path / "logs.jsonl"), tmp_path / "run", policy=other, resume=True, **TABULAR)
    tiny = str(save_tiny_model(tmp_path / "model"))
    first, second = (HfPolicy(model=tiny, lora_rank=rank, dtype="float32", device="cpu") for rank in (2, 4))
    assert first.identity == second.identity and first.training_identity != second.training_identity


def test_training_without_pivots_says_why(tmp_path: Path) -> None:
    with pytest.raises(NoPivots):
        run(
            str(write_logs(tmp_path / "logs.jsonl")),
            tmp_path / "run",
            policy=TabularPolicy(),
            **{**TABULAR, "selection": SelectionOptions(max_mean=0.0)},
        )
    with pytest.raises(NoPivots, match="0 of .* turns are pivots"):
        train_stage(tmp_path / "run", policy=TabularPolicy(), verifier=verify)
