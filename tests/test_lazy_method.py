"""The method `lazy`: no profile; mixed turns teach, dead ones rest; a killed training ends as an undisturbed one.

Run alone: python -m pytest tests/test_lazy_method.py
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from dying import Dying, Killed
from pivotrl import Action, InputError, TrainingOptions, Turn, Verdict, cut, run, train
from pivotrl.policies.tabular import Policy
from pivotrl.readers.chat import read
from pivotrl.records import SampleGroup, StepMetrics
from pivotrl.runs.files import RunFiles
from pivotrl.storage.record_files import read_records
from pivotrl.verifiers.exact import verify
from test_continuing import pivotrl
from test_evaluation import talk
from test_pipeline import write_logs

OPTIONS: dict[str, Any] = {
    "method": "lazy",
    "num_steps": 12,
    "turns_per_step": 8,
    "group_size": 8,
    "learning_rate": 2.0,
    "turns_per_trajectory": 1,
    "checkpoint_every": 5,
}


def turns() -> list[Turn]:
    return cut([talk(f"t{n}", ["a", "b", "c"]) for n in range(20)])[0]


def some_never_pass(turn: Turn, action: Action) -> Verdict:
    """At every third turn of a task nothing passes, so it cannot teach."""
    return Verdict.failed("never") if turn.index == 6 else verify(turn, action)


def trained(folder: Path, verifier: Any = some_never_pass, **changes: Any) -> tuple[Policy, list[StepMetrics]]:
    policy = Policy(spread=1.0)
    steps = train(policy, turns(), verifier, folder, TrainingOptions(**(OPTIONS | changes)))
    return policy, steps


def test_every_step_is_full_though_some_turns_are_dead(tmp_path: Path) -> None:
    _, steps = trained(tmp_path)
    first = [step.metrics for step in steps[:4]]
    assert all(metrics["groups/with_signal"] >= 8 for metrics in first), "turns are tried until 8 are mixed"
    assert any(metrics["groups/sampled"] > 8 for metrics in first)
    assert all(metrics["samples/total"] == 8 * metrics["groups/sampled"] for metrics in first), "all samples count"
    _, twin = trained(tmp_path / "twin", method="pivotrl")
    assert any(step.metrics["groups/with_signal"] < 8 for step in twin[:4])


def test_dead_turns_rest_longer_each_time(tmp_path: Path) -> None:
    _, steps = trained(tmp_path, num_steps=40)
    groups = read_records(tmp_path / "groups.jsonl", SampleGroup)
    visits: dict[str, int] = {}
    for group in groups:
        visits[group.turn_id] = visits.get(group.turn_id, 0) + 1
    dead = [count for name, count in visits.items() if name.endswith("#6")]
    others = [count for name, count in visits.items() if not name.endswith("#6")]
    assert len(dead) == 20 and max(dead) < sum(others) / len(others)
    assert steps[-1].metrics["turns/resting"] >= 20
    assert steps[-1].metrics["turns/tried"] == 60


def test_the_reward_rises_and_mastered_turns_retire(tmp_path: Path) -> None:
    _, steps = trained(tmp_path, verifier=verify, num_steps=60, learning_rate=8.0)
    assert steps[0].metrics["reward/mean"] < 0.5
    assert steps[-1].metrics["turns/resting"] > 20, "turns that always pass rest, too"


@pytest.mark.parametrize("after", [1, 7, 16])
def test_a_killed_training_ends_as_an_undisturbed_one(after: int, tmp_path: Path) -> None:
    policy, steps = trained(tmp_path / "a")

    with pytest.raises(Killed):
        train(Dying(after, spread=1.0), turns(), some_never_pass, tmp_path / "b", TrainingOptions(**OPTIONS))
    resumed, again = trained(tmp_path / "b")
    assert (tmp_path / "b" / "groups.jsonl").read_bytes() == (tmp_path / "a" / "groups.jsonl").read_bytes()
    chances = [[list(one.probabilities(turn)) for turn in turns()] for one in (policy, resumed)]
    assert chances[0] == chances[1]

    def lasting(rows: list[StepMetrics]) -> list[dict[str, float]]:
        return [{k: v for k, v in row.metrics.items() if not k.startswith("time/")} for row in rows]

    assert lasting(again) == lasting(steps)


def test_it_runs_out_of_turns_without_harm(tmp_path: Path) -> None:
    def nothing(turn: Turn, action: Action) -> Verdict:
        return Verdict.failed("never")

    _, steps = trained(tmp_path, verifier=nothing, num_steps=6, turns_per_step=50)
    assert len(steps) == 6
    assert all("gradient/norm" not in step.metrics for step in steps), "nothing teaches, so nothing moves"


def test_a_run_needs_no_profile(tmp_path: Path) -> None:
    write_logs(tmp_path / "logs.jsonl", 10)
    training = TrainingOptions(**(OPTIONS | {"num_steps": 2, "checkpoint_every": 1}))
    run(
        str(tmp_path / "logs.jsonl"),
        tmp_path / "run",
        reader=read,
        verifier=verify,
        policy=Policy(spread=1.0),
        training=training,
    )
    assert not (tmp_path / "run" / "profiles.jsonl").exists()
    manifest = RunFiles(tmp_path / "run").finished("train")
    assert manifest.counts["candidate_turns"] > 8
    assert manifest.num_rollout_turns >= 2 * 8 * 8
    assert (tmp_path / "run" / "report.html").exists()


def test_the_command_takes_a_selection_or_all_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_logs(tmp_path / "logs.jsonl", 10)
    run_folder = str(tmp_path / "run")
    assert pivotrl("read", str(tmp_path / "logs.jsonl"), "-o", run_folder) == 0
    small = ["--policy", "tabular(spread=1.0)", "--verifier", "exact", "--num-steps", "2", "--turns-per-step", "4"]
    assert pivotrl("train", run_folder, *small, "--method", "lazy", "--name", "all") == 0
    assert RunFiles(Path(run_folder)).finished("trainings/all").counts["steps"] == 2
    assert pivotrl("train", run_folder, *small, "--method", "lazy", "--name", "some", "--selection", "none") == 2
    assert "none" in capsys.readouterr().err


def test_options_without_effect_are_refused() -> None:
    with pytest.raises(InputError, match="group_size|--group-size"):
        TrainingOptions(**(OPTIONS | {"group_size": 1}))
    with pytest.raises(InputError, match="max_batches"):
        TrainingOptions(**(OPTIONS | {"method": "lazy(max_batches=0)"}))


def test_spent_pivots_are_noticed_once(tmp_path: Path) -> None:
    def notices(folder: Path, **changes: Any) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trained(folder, verifier=verify, num_steps=60, learning_rate=30.0, **changes)
        return [str(warning.message) for warning in caught if "nothing left to teach" in str(warning.message)]

    assert len(notices(tmp_path / "pivots", method="pivotrl")) == 1
    assert not notices(tmp_path / "lazy"), "it looks for new ones by itself"


def test_a_profile_of_another_policy_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_logs(tmp_path / "logs.jsonl", 10)
    folder = str(tmp_path / "run")
    assert pivotrl("read", str(tmp_path / "logs.jsonl"), "-o", folder) == 0
    assert pivotrl("profile", folder, "--policy", "tabular(spread=1.0)", "--verifier", "exact") == 0
    assert pivotrl("select", folder) == 0
    small = ["--num-steps", "2", "--turns-per-step", "4"]
    assert pivotrl("train", folder, "--policy", "tabular(spread=1.0)", *small, "--name", "same") == 0
    assert "made by another policy" not in capsys.readouterr().err
    assert pivotrl("train", folder, "--policy", "tabular(spread=2.0)", *small) == 2
    told = capsys.readouterr().err
    assert "policy, spread: was 1.0, now 2.0" in told and "--profile-may-differ-in policy" in told
    assert not (tmp_path / "run" / "train.manifest.json").exists()
    allowed = ["--profile-may-differ-in", "policy"]
    assert pivotrl("train", folder, "--policy", "tabular(spread=2.0)", *small, *allowed) == 0
    manifest = RunFiles(Path(folder)).finished("train")
    assert manifest.counts["profile_differs_in"] == ["policy, spread: was 1.0, now 2.0"]
    assert manifest.options["profile_may_differ_in"] == ["policy"]
    assert pivotrl("train", folder) == 0, "a finished training stays as it is"
    capsys.readouterr()
    assert pivotrl("train", folder, "--policy", "tabular(spread=2.0)", *small, "--name", "again") == 2, "each says it"
    assert pivotrl("report", folder) == 0
    assert "The profile does not belong to this training" in (tmp_path / "run" / "report.html").read_text()
    capsys.readouterr()
    assert pivotrl("status", folder) == 0
    assert "train: accepted a profile that differs in policy, spread: was 1.0" in capsys.readouterr().out


def test_a_step_larger_than_the_pool_does_not_end_the_training(tmp_path: Path) -> None:
    _, steps = trained(tmp_path, verifier=verify, num_steps=6, turns_per_step=100, learning_rate=0.5)
    sampled = [step.metrics["groups/sampled"] for step in steps]
    assert sampled[0] == 60
    assert all(number >= 30 for number in sampled), "every step goes round again"


def test_a_whole_run_is_complete_without_a_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_logs(tmp_path / "logs.jsonl", 10)
    given = ["--policy", "tabular(spread=1.0)", "--verifier", "exact", "--num-steps", "2", "--turns-per-step", "4"]
    given += ["--max-pivots", "5", "--method", "lazy"]
    assert pivotrl("run", str(tmp_path / "logs.jsonl"), "-o", str(tmp_path / "run"), *given) == 0
    told = capsys.readouterr()
    assert "not finished" not in told.out + told.err
    assert "options of the selection have no effect" in told.err
    assert "Not final" not in (tmp_path / "run" / "report.html").read_text()
    assert pivotrl("status", str(tmp_path / "run")) == 0
    assert "not begun" not in capsys.readouterr().out
