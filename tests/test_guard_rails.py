"""Guard rails end a training that collapses, and no other."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from collapsing import Policy as Collapsing
from pivotrl import Message, TrainingOptions, Trajectory, cut, train
from pivotrl.policies.tabular import Policy as Table
from pivotrl.protocols import Collapsed, Notice
from pivotrl.records import StepMetrics, ToolCall
from pivotrl.runs.manifest import manifest_path, read_manifest
from pivotrl.storage.record_files import read_records
from pivotrl.training_options.gain import LEAST_GAIN
from pivotrl.training_options.guard_rails import OPTIONS, GuardRail, GuardRails, stopped_by
from pivotrl.verifiers.exact import verify
from test_continuing import copy, pivotrl, weights
from test_pipeline import write_logs

sys.path.insert(0, str(Path(__file__).parent.parent / "recipes"))
from guard_rails import ended_by_means, simulated, simulated_end

OFF: dict[str, Any] = dict.fromkeys(OPTIONS[1:])
BASE = TrainingOptions(
    **{**OFF, "guard_steps": 5},
    num_steps=40,
    turns_per_step=8,
    group_size=8,
    learning_rate=1.0,
    kl_coefficient=0.001,
    checkpoint_every=1,
)


def calls(num_tasks: int = 8) -> list[Trajectory]:
    """Each asks for one tool call; the table's other answers are plain messages."""
    return [
        Trajectory(
            id=f"log{i}",
            task_id=f"task{i}",
            messages=(
                Message(role="user", content=f"question {i}"),
                Message(role="assistant", tool_calls=(ToolCall(id="c", name="find", arguments=f'{{"n": {i}}}'),)),
            ),
        )
        for i in range(num_tasks)
    ]


RAILS = [
    (
        "guard_entropy",
        0.3,
        Collapsing(),
        r"entropy was below 0\.\d+ nats per token in 5 steps in a row, up to step",
    ),
    ("guard_dead_groups", 0.9, Collapsing(), r"\d+% or more of the groups had no signal|all of the groups"),
    (
        "guard_malformed",
        0.5,
        Collapsing(breaks=True),
        r"\d+% or more of the samples were malformed in 5 steps in a",
    ),
    ("guard_messages", 0.5, Collapsing(), r"of the samples were messages where the demonstrations call tools in 5"),
    ("guard_kl", 0.5, Collapsing(), r"KL to the reference was [\d.]+ nats per token or more in 5 steps"),
]


@pytest.mark.parametrize(("option", "limit", "policy", "told"), RAILS, ids=[rail[0] for rail in RAILS])
def test_each_rail_ends_a_training_that_collapses(
    option: str, limit: float, policy: Collapsing, told: str, tmp_path: Path
) -> None:
    turns, guarded = cut(calls())[0], dataclasses.replace(BASE, **{option: limit})
    flag = f"--{option.replace('_', '-')}"
    warned = pytest.warns(Notice, match=rf"in 3 steps in a row.*2 more such steps may end the training \({flag}\)")
    with warned, pytest.raises(Collapsed) as ended:
        train(policy.reference, turns, verify, tmp_path / "guarded", guarded)
    assert re.search(told, str(ended.value)) and f"another {flag} or --guard-steps 0" in str(ended.value)
    assert "\n" not in str(ended.value)
    rows = [row.metrics for row in read_records(tmp_path / "guarded/metrics.jsonl", StepMetrics)]
    assert 5 < len(rows) < 40 and stopped_by(dataclasses.asdict(guarded), rows)
    assert (tmp_path / f"guarded/checkpoints/step_{len(rows) - 1:06}").is_dir()

    # Twins that go on: without the rail; and a policy that learns, under the same rail.
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        warnings.filterwarnings("ignore", "at step|.*samples", Notice)
        freely = train(
            policy.reference, turns, verify, tmp_path / "freely", dataclasses.replace(guarded, guard_steps=0)
        )
        healthy = train(Table(spread=0.5), turns, verify, tmp_path / "healthy", guarded)
    assert len(freely) == len(healthy) == 40
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        shorter = dataclasses.replace(guarded, num_steps=len(rows))
        complete = train(policy.reference, turns, verify, tmp_path / "guarded", shorter)
    assert len(complete) == len(rows), "at its last step a training ends anyway"
    untimed = [
        [{k: v for k, v in row.items() if not k.startswith("time/")} for row in side]
        for side in (rows, [row.metrics for row in freely][: len(rows)])
    ]
    assert untimed[0] == untimed[1], "a rail changes nothing before it ends the training"
    assert healthy[-1].metrics["reward/mean"] > healthy[0].metrics["reward/mean"]


def test_what_falls_in_every_good_training_ends_none(tmp_path: Path) -> None:
    """Learned to the end: no entropy and no signal are left, far from the reference, and the reward is 1."""
    options = dataclasses.replace(
        BASE, num_steps=120, learning_rate=5.0, **dataclasses.asdict(GuardRails()) | {"guard_kl": 0.5}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        rows = [row.metrics for row in train(Table(), cut(calls())[0], verify, tmp_path, options)]
    assert rows[-1]["reward/mean"] > 0.95 and rows[-1]["policy/entropy"] < 0.2 * rows[0]["policy/entropy"]
    assert min(row["loss/kl"] for row in rows[-10:]) > 0.5
    assert sum(row["groups/with_signal"] == 0 for row in rows) > 10


def row(reward: float | None = 0.2, **values: float) -> dict[str, float]:
    metrics = {"groups/with_verdict": 8.0, "groups/with_signal": 6.0, "samples/total": 64.0, "samples/malformed": 0.0}
    return {**metrics, **({} if reward is None else {"reward/mean": reward}), **values}


def look(rows: list[dict[str, float]], **options: Any) -> int | None:
    """After how many steps the training ended; None if it did not."""
    rail = GuardRail(GuardRails(**options), 1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        for number, metrics in enumerate(rows, start=1):
            try:
                rail.look(metrics)
            except Collapsed:
                return number
    return None


DEAD = {"groups/with_signal": 0.0}


def test_a_rail_wants_its_steps_in_a_row_and_a_change_since_the_start() -> None:
    good, bad = row(), row(**{"samples/malformed": 50.0})
    assert look([good] * 10 + [bad] * 10) == 20
    assert look([good] * 10 + ([bad] * 9 + [good]) * 5) is None
    assert look([bad] * 50) is None, "a policy that begins badly may get better"
    assert look([row(**{"samples/malformed": 20.0})] * 10 + [row(**{"samples/malformed": 34.0})] * 20) is None
    assert look([good] * 10 + [bad] * 10, guard_steps=4) == 14
    assert look([good] * 10 + [bad] * 40, guard_steps=0) is None


def test_few_groups_without_signal_are_chance_and_many_are_not() -> None:
    assert look([row(0.5)] * 10 + [row(0.1, **DEAD)] * 20) == 20
    assert look([row(0.5)] * 13 + [row(0.48, **DEAD)] * 15 + [row(0.1, **DEAD)] * 30) == 43, "ten more each time"
    assert look([row(0.5)] * 10 + [row(0.9, **DEAD)] * 20) is None, "all groups pass: it is learned"
    small = {"groups/with_verdict": 1.0}
    sparse = [row(**{**small, "groups/with_signal": float(step % 5 == 0)}) for step in range(10)]
    ended = look(sparse + [row(0.2, **small, **DEAD)] * 40)
    assert ended is None or ended > 40, "a fifth of single groups has signal: ten without are nothing special"


def test_unknown_is_no_reason_to_end() -> None:
    assert look([row(None, **{"policy/entropy": 1.0})] * 10 + [row(None, **{"policy/entropy": 0.0})] * 20) is None
    assert look([row(0.6, **{"policy/entropy": 1.0})] * 10 + [row(0.1, **{"policy/entropy": 0.01}), row()] * 20) == 29


@pytest.mark.parametrize("turns", [1, 8, 64])
@pytest.mark.parametrize("start", [0.1, 0.9])
def test_noise_alone_ends_no_training_and_a_fall_does(turns: int, start: float) -> None:
    """Three metrics are beyond their limits in every step, so the reward alone decides, 100 steps long."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        gaining = list(simulated(turns, start, LEAST_GAIN, num_runs=60))
        assert sum(simulated_end(rows) is not None for rows in gaining) <= 7  # 5 % of 60, and three standard errors
        assert sum(map(ended_by_means, gaining)) > 7, "the means alone are not enough"
        if turns == 64 and start == 0.9:
            falling = simulated(turns, start, -0.2, num_runs=20)
            assert all(end and end <= 30 for end in map(simulated_end, falling))


def test_it_ends_with_its_own_exit_code_and_goes_on_as_if_never_ended(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    run, options = tmp_path / "run", ["--turns-per-step", "8", "--group-size", "8", "--num-steps", "30"]
    options += ["--learning-rate", "1", "--guard-steps", "5", "--policy", "collapsing:Policy"]
    assert pivotrl("read", write_logs(tmp_path / "logs.jsonl", 12), "-o", run) == 0
    profiled = ["--policy", "collapsing:Policy", "--verifier", "exact", "--num-samples", "8"]
    assert pivotrl("profile", run, *profiled) == 0 and pivotrl("select", run) == 0
    assert pivotrl("evaluate", run, "--name", "before") == 0
    freely = copy(run, tmp_path / "freely")
    capfd.readouterr()
    assert pivotrl("train", run, *options) == 7
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert "the training has collapsed and ends here" in line and "--guard-dead-groups or --guard-steps 0" in line
    assert read_manifest(manifest_path(run, "train")).status == "running"

    assert pivotrl("status", run) == 0
    status = " ".join(capfd.readouterr().out.split())
    assert "train: a guard rail ended it: " in status and "of the groups had no signal" in status
    assert f"pivotrl train {run} --guard-steps 0" in status.replace("'", "")
    assert pivotrl("status", run, "--json") == 0
    (stage,) = [s for s in json.loads(capfd.readouterr().out)["stages"] if s["stage"] == "train"]
    assert stage["state"] == "stopped" and "no signal" in stage["fault"]
    assert pivotrl("report", run) == 0
    assert "A guard rail ended the training: " in (run / "report.html").read_text()

    samples = (run / "train/groups.jsonl").read_bytes()
    assert pivotrl("train", run) == 7, "the same command ends at the same step"
    assert (run / "train/groups.jsonl").read_bytes() == samples, "and samples nothing"
    assert pivotrl("train", run, "--guard-steps", "0") == 0
    assert pivotrl("train", freely, *options, "--guard-steps", "0") == 0
    assert weights(run) == weights(freely)
    assert read_manifest(manifest_path(run, "train")).options["guard_steps"] == 0
    assert pivotrl("report", run) == 0
    assert "A guard rail" not in (run / "report.html").read_text()
    shutil.rmtree(freely)
