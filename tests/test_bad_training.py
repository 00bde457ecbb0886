"""What goes wrong in training is said by name: rates that do not fit, weights that blow up, samples cut off."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from pivotrl import Action, TrainingOptions, Verdict, cut, profile, select, train
from pivotrl.evaluation import EvaluationOptions, evaluate_retention, evaluate_turns
from pivotrl.policies.hf import Policy as HfPolicy
from pivotrl.policies.tabular import Policy as TabularPolicy
from pivotrl.profiling import ProfileOptions, outcome_counts
from pivotrl.protocols import InputError, Turn
from pivotrl.protocols.observing import Observer
from pivotrl.records import Manifest, Sampling
from pivotrl.report.sentences import caveats
from pivotrl.runs.manifest import read_manifest
from pivotrl.samplers.scripted import Sampler
from pivotrl.selection import require_pivots
from pivotrl.training_options import rate_complaint, with_learning_rate
from pivotrl.verifiers.exact import verify
from test_cli import FAST, call, refused
from test_cli import logs as log_file
from test_training import SMALL, even_length, logs
from tiny import save_tiny_model

__all__ = ["log_file"]


class Notes(Observer):
    """Keeps what is said of each step."""

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes

    def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
        self._notes.append(note)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def tiny(model: Path, lora_rank: int) -> HfPolicy:
    return HfPolicy(model=str(model), lora_rank=lora_rank, dtype="float32", device="cpu")


# --- learning rates ---------------------------------------------------------------------------------------------------


def test_the_default_rate_is_that_of_what_is_trained(model: Path) -> None:
    def rate(policy: Any, method: str = "pivotrl") -> float | None:
        return with_learning_rate(TrainingOptions(method=method), policy).learning_rate  # type: ignore[arg-type]

    lora, full = tiny(model, 4), tiny(model, 0)
    assert [rate(p, m) for p in (lora, full) for m in ("pivotrl", "sft")] == [5e-5, 2e-4, 1e-6, 1e-5]
    assert rate(TabularPolicy()) == 5.0
    assert with_learning_rate(TrainingOptions(learning_rate=0.3), lora).learning_rate == 0.3
    with pytest.raises(InputError, match="has no default learning rate; give --learning-rate"):
        rate(object())


def test_the_rate_that_was_taken_is_in_the_manifest(log_file: Path, tmp_path: Path) -> None:
    given = [argument for argument in FAST if argument not in ("--learning-rate", "1")]
    assert call("run", log_file, "-o", tmp_path / "run", *given) == 0
    manifest = read_manifest(tmp_path / "run" / "train.manifest.json")
    assert manifest.options["learning_rate"] == 5.0 == manifest.counts["usual_learning_rate"]
    assert manifest.options["average_over"] == "all"


@pytest.mark.parametrize(
    ("rate", "usual", "told"),
    [
        (1e-6, 5e-5, "50 times below 5e-05, the usual rate for these weights: the policy will hardly learn"),
        (3e-3, 5e-5, "60 times above 5e-05"),
        (1e20, 5e-5, "2e\\+24 times above"),
        (5e-5, 5e-5, None),
        (5e-4, 5e-5, None),
        (2e-4, 5e-5, None),
    ],
)
def test_a_rate_far_from_the_usual_one_is_told(rate: float, usual: float, told: str | None) -> None:
    found = rate_complaint(rate, usual)
    assert found is None if told is None else re.search(told, str(found))


def test_a_rate_that_does_not_fit_is_told_on_stderr_and_in_the_report(
    log_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call("run", log_file, "-o", tmp_path / "run", *FAST, "--learning-rate", "1e-3") == 0
    assert "5,000 times below 5, the usual rate" in " ".join(capfd.readouterr().err.split())
    assert "5,000 times below 5, the usual rate" in (tmp_path / "run" / "report.html").read_text()


# --- weights that blow up ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lora_rank", "rate"), [(0, 1e10), (0, 1e38), (4, 1e20), (4, 1e300)])
def test_a_step_that_blows_the_weights_up_ends_in_words_and_loses_nothing(
    model: Path, tmp_path: Path, lora_rank: int, rate: float
) -> None:
    options = dataclasses.replace(SMALL, method="sft", num_steps=3, checkpoint_every=1)
    train(tiny(model, lora_rank), cut(logs())[0], verify, tmp_path, dataclasses.replace(options, num_steps=1))
    kept = {path: path.read_bytes() for path in (tmp_path / "checkpoints" / "step_000001").iterdir()}
    policy = tiny(model, lora_rank)
    with pytest.raises(InputError, match=r"learning rate .* no finite numbers.* lower --learning-rate"):
        train(policy, cut(logs())[0], verify, tmp_path, dataclasses.replace(options, learning_rate=rate))
    assert {path: path.read_bytes() for path in (tmp_path / "checkpoints" / "step_000001").iterdir()} == kept


def test_a_table_that_blows_up_stays_as_it_was(log_file: Path, tmp_path: Path, capsys: Any) -> None:
    huge = ["--learning-rate", "1e300", "--max-gradient-norm", "1e300", "--num-steps", "4", "--checkpoint-every", "1"]
    told = refused(capsys, 2, "run", log_file, "-o", tmp_path / "run", *FAST, *huge)
    assert "pivotrl: a step at learning rate 1e+300 would make logits beyond 1e+100" in told
    again = [
        "--policy",
        "tabular",
        "--verifier",
        "exact",
        "--num-steps",
        "3",
        "--turns-per-step",
        "4",
        "--group-size",
        "4",
    ]
    assert call("train", tmp_path / "run", *again, "--overwrite") == 0


def test_weights_without_finite_probabilities_are_refused_by_the_sampler(model: Path) -> None:
    for executor in ("split", "cache", "reference"):
        policy = HfPolicy(model=str(model), lora_rank=4, dtype="float32", device="cpu", executor=executor)  # type: ignore[arg-type]
        next(iter(policy.model.parameters())).data.fill_(math.nan)
        for temperature in (0.0, 1.0):
            with pytest.raises(InputError, match="log0#1: the model's probabilities are no finite numbers"):
                list(policy.sample(cut(logs())[0], 2, Sampling(temperature=temperature, max_tokens=3)))


class Spoilt(TabularPolicy):
    """Its gradients are no numbers from the second step on."""

    def update(self, groups: Any, learning_rate: float, options: Any) -> dict[str, float]:
        if self._trained:
            groups = [dataclasses.replace(g, advantages_G=[math.nan] * len(g.advantages_G)) for g in groups]
        return super().update(groups, learning_rate, options)


def test_three_skipped_steps_in_a_row_end_in_words(tmp_path: Path) -> None:
    options = TrainingOptions(method="sft", num_steps=9, turns_per_step=4, learning_rate=1.0, checkpoint_every=1)
    notes: list[str] = []
    with pytest.raises(
        InputError, match="not finite in 3 steps in a row, up to step 4; train again with --learning-rate below"
    ):
        train(Spoilt(), cut(logs())[0], verify, tmp_path, options, Notes(notes))
    assert notes[2] == "update skipped"
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    metrics = [json.loads(line)["metrics"] for line in lines]
    assert [row["update/skipped"] for row in metrics] == [0, 1, 1, 1]
    assert "gradient/norm" in metrics[0] and "gradient/norm" not in metrics[1] and "loss/total" not in metrics[1]


# --- samples that were cut off, malformed or got no verdict -----------------------------------------------------------


def test_all_samples_cut_off_are_told_at_every_stage(
    model: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    policy, turns = tiny(model, 4), cut(logs())[0]

    def told() -> str:
        words = " ".join(str(warning.message) for warning in recwarn)
        recwarn.clear()
        return words

    options = ProfileOptions(num_samples=3, max_tokens=2)
    groups, _ = profile(turns, policy, even_length, tmp_path / "profiles.jsonl", options)
    assert "24 of 24 samples were cut off before they ended, and so failed: raise --max-tokens (now 2)" in told()
    assert outcome_counts(groups)["samples_cut_off"] == 24
    rows = select(groups)
    assert {row.reason for row in rows} == {"cut_off"}
    with pytest.raises(InputError, match=r"were cut off at --max-tokens\). Profile again with a larger --max-tokens"):
        require_pivots(rows)
    evaluate_turns(policy, turns, even_length, tmp_path / "turns.jsonl", EvaluationOptions(eval_max_tokens=2))
    assert "8 of 8 samples were cut off before they ended, and so failed: raise --eval-max-tokens (now 2)" in told()
    notes: list[str] = []
    short = dataclasses.replace(SMALL, num_steps=2, train_max_tokens=2)
    metrics = train(policy, turns, even_length, tmp_path, short, Notes(notes))
    words = told()
    assert (
        words.count("18 of 18 samples were cut off before they ended, and so failed: raise --train-max-tokens (2)") == 1
    )
    assert notes[1] == "reward 0.00 · 0/3 groups with signal · 18/18 samples cut off"
    totals = [row.metrics for row in metrics]
    manifest = Manifest(
        stage="profile",
        status="complete",
        options={"num_samples": 3},
        counts={"profiled_turns": 8, **outcome_counts(groups)},
    )
    report = caveats_of({"profile": manifest}, totals)
    assert "In profiling 24 of 24 samples were cut off before they ended, and so failed: raise --max-tokens." in report
    assert (
        "In training 36 of 36 samples were cut off before they ended, and so failed: raise --train-max-tokens."
        in report
    )


def caveats_of(manifests: dict[str, Manifest], metrics: list[dict[str, float]]) -> list[str]:
    from test_reporting import summary

    return caveats(summary(), manifests, metrics, {})


@pytest.mark.parametrize(
    ("outcome", "reason", "told"),
    [
        ("unknown", "no_verdict", "Look at the reasons with `pivotrl show`"),
        ("pass", "always_pass", "Profile harder turns"),
        ("fail", "always_fail", "Check the verifier with `pivotrl check`"),
    ],
)
def test_advice_follows_the_commonest_cause(tmp_path: Path, outcome: str, reason: str, told: str) -> None:
    turns = cut(logs())[0]

    def judge(turn: Turn, action: Action) -> Verdict:
        return {"fail": Verdict.failed("no"), "pass": Verdict.passed(), "unknown": Verdict.unknown("down")}[outcome]

    sampler = Sampler(script={turn.id: ["fine"] for turn in turns})
    groups, _ = profile(turns, sampler, judge, tmp_path / "profiles.jsonl", ProfileOptions(num_samples=2))
    rows = select(groups)
    assert {row.reason for row in rows} == {reason}
    with pytest.raises(InputError, match=told):
        require_pivots(rows)


def test_malformed_actions_are_the_advice_when_most_are(tmp_path: Path) -> None:
    turns = cut(logs())[0]
    sampler = Sampler(script={turn.id: ["fine"] for turn in turns})
    groups, _ = profile(turns, sampler, verify, tmp_path / "profiles.jsonl", ProfileOptions(num_samples=2))
    broken = [
        group.model_copy(
            update={
                "completions_G": tuple(c.model_copy(update={"parse_error": "no_json"}) for c in group.completions_G),
                "verdicts_G": (Verdict.failed("no_json"),) * 2,
            }
        )
        for group in groups
    ]
    rows = select(broken)
    assert {row.reason for row in rows} == {"malformed"}
    with pytest.raises(InputError, match="does not write actions in the form"):
        require_pivots(rows)


# --- reference texts --------------------------------------------------------------------------------------------------


def test_a_text_without_a_finite_likelihood_is_refused_and_not_written(model: Path, tmp_path: Path) -> None:
    policy, file = tiny(model, 4), tmp_path / "retention.jsonl"
    texts = [{"id": "a", "source": "s", "prompt": "q", "answer": "4"}]
    policy.model.get_output_embeddings().weight.data.fill_(math.nan)
    with pytest.raises(InputError, match="reference text 'a': its 1 answer tokens have no finite likelihood"):
        evaluate_retention(policy, texts, file)
    assert not file.exists()
