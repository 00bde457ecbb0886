"""Arms share what they may share, differ in what they should, and are compared item by item."""

from __future__ import annotations

from pathlib import Path

from pivotrl import (
    Action,
    EvaluationOptions,
    ProfileOptions,
    SelectionOptions,
    TrainingOptions,
    Turn,
    TurnOptions,
    Verdict,
)
from pivotrl.comparison import ARMS, Protocol, collect, imitation_turns_per_step, run_seed
from pivotrl.judging.lint import CheckOptions
from pivotrl.policies.tabular import Policy
from pivotrl.readers.chat import read
from pivotrl.records import SampleGroup, StepMetrics
from pivotrl.runs.manifest import read_manifest
from pivotrl.storage.record_files import read_records
from pivotrl.verifiers.exact import verify as exact
from test_pipeline import write_logs


def lenient(turn: Turn, action: Action) -> Verdict:
    """Accepts the demonstration and every other action of even length."""
    if exact(turn, action).outcome == "pass" or len(action.content or "") % 2 == 0:
        return Verdict.passed("equivalent")
    return Verdict.failed("odd")


def protocol(tmp_path: Path) -> Protocol:
    heldout = write_logs(tmp_path / "heldout.jsonl", 10)
    heldout.write_text(heldout.read_text().replace("task", "other").replace("answer", "reply").replace('"log', '"held'))
    return Protocol(
        source=str(write_logs(tmp_path / "logs.jsonl", 12)),
        heldout=str(heldout),
        reader=read,
        verifier=lenient,
        exact_verifier=exact,
        make_policy=lambda seed: Policy(seed=seed),
        environments=None,
        turns=TurnOptions(),
        profiling=ProfileOptions(num_samples=4),
        selection=SelectionOptions(max_mean=0.9),
        training=TrainingOptions(num_steps=4, turns_per_step=4, group_size=4, learning_rate=1.0),
        imitation_rate=1.0,
        evaluation=EvaluationOptions(turn_samples=4, turn_temperature=1.0),
        checking=CheckOptions(max_false_pass=1.0),
        retention=[{"id": f"r{i}", "source": "test", "prompt": "1 + 1", "answer": "2"} for i in range(3)],
    )


def test_every_arm_runs_resumes_and_is_compared(tmp_path: Path) -> None:
    root = tmp_path / "compare"
    for seed in (0, 1):
        run_seed(root, seed, protocol(tmp_path))
    arms = collect(root)
    assert set(arms) == {"base", *ARMS}
    assert all(arm["seeds"] == [0, 1] for arm in arms.values())
    assert arms["pivotrl"]["against"]["turns"]["base"]["num_items"] == arms["base"]["turns"]["num_items"]
    assert arms["pivotrl"]["against"]["turns"]["base"]["num_clusters"] == 10
    assert arms["pivotrl_kl"]["kl"]["num_items"] == 6
    assert 0 < arms["pivotrl_kl"]["kl"]["mean"] < arms["pivotrl"]["kl"]["mean"]
    stamps = {path: path.stat().st_mtime_ns for path in root.rglob("*.jsonl")}
    run_seed(root, 0, protocol(tmp_path))
    assert stamps == {path: path.stat().st_mtime_ns for path in root.rglob("*.jsonl")}
    shared = (root / "seed0" / "shared" / "profiles.jsonl").read_bytes()
    assert (root / "seed0" / "pivotrl" / "profiles.jsonl").read_bytes() == shared
    strict = read_records(root / "seed0" / "exact_reward" / "profiles.jsonl", SampleGroup)
    loose = read_records(root / "seed0" / "shared" / "profiles.jsonl", SampleGroup)
    assert [g.completions_G for g in strict] == [g.completions_G for g in loose]  # judged again, not sampled again
    assert sum(map(sum, (g.rewards for g in strict))) < sum(map(sum, (g.rewards for g in loose)))
    pivots = {a: read_manifest(root / "seed0" / a / "select.manifest.json").counts["pivots"] for a in ARMS}
    assert pivots["random_turns"] == pivots["pivotrl"] == pivots["sft_pivots"] < pivots["sft_all"] == 36


def test_imitation_gets_the_computation_that_pivotrl_spends(tmp_path: Path) -> None:
    training = TrainingOptions(num_steps=10, turns_per_step=8, group_size=8)
    run_seed(tmp_path / "c", 0, protocol(tmp_path), arms=["sft_all"])
    groups = read_records(tmp_path / "c" / "seed0" / "shared" / "profiles.jsonl", SampleGroup)
    groups = [g.model_copy(update={"num_prompt_tokens": 100}) for g in groups]
    per_step = imitation_turns_per_step(groups, training)
    profile = len(groups) * (100 + 4 * 1)
    spent = profile + 10 * 8 * 4 * (100 + 8)
    assert abs(per_step * 10 * 3 * (100 + 1) - spent) <= 10 * 3 * 101 / 2
    rows = read_records(tmp_path / "c" / "seed0" / "sft_all" / "train" / "metrics.jsonl", StepMetrics)
    assert all("samples/total" not in row.metrics for row in rows)
