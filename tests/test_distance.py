"""Distances from the profile alone: to accepted actions and to demonstrations.

Run alone: python -m pytest tests/test_distance.py
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from pivotrl import Action, ProfileOptions, cut, profile
from pivotrl.evaluation import distances, score_demonstrations
from pivotrl.evaluation.distance import Distances, negative_log_mass, seen
from pivotrl.policies.hf import Policy as HfPolicy
from pivotrl.policies.tabular import Policy
from pivotrl.protocols import Turn
from pivotrl.records import Completion, SampleGroup, Verdict
from pivotrl.stages.selecting import profile_distances
from pivotrl.verifiers.exact import verify
from test_continuing import pivotrl
from test_evaluation import talk
from test_pipeline import write_logs
from tiny import save_tiny_model


def binomial(k: int, n: int, p: float) -> float:
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


@pytest.mark.parametrize("p", [0.02, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("n", [1, 4, 16])
def test_the_estimate_of_the_log_mass_has_the_mean_that_is_stated(p: float, n: int) -> None:
    mean = sum(binomial(k, n, p) * negative_log_mass(k, n) for k in range(n + 1))
    assert mean == pytest.approx(seen(-math.log(p), n))
    tail = sum((1 - p) ** j / j for j in range(n + 1, 5000))
    assert mean + tail == pytest.approx(-math.log(p), abs=1e-6)


def group(turn: Turn, passed: int, failed: int, unknown: int = 0) -> SampleGroup:
    done = Completion(action=Action(content="x"), text="x", token_ids_T=(1,), logprobs_T=(0.0,), finish_reason="stop")
    verdicts = [Verdict.passed()] * passed + [Verdict.failed("no")] * failed + [Verdict.unknown("?")] * unknown
    return SampleGroup(turn_id=turn.id, completions_G=(done,) * len(verdicts), verdicts_G=tuple(verdicts))


def measured(policy: Policy, turns: Sequence[Turn], path: Path, num_samples: int) -> Distances:
    groups, _ = profile(turns, policy, verify, path / "p.jsonl", ProfileOptions(num_samples=num_samples))
    scores = score_demonstrations(policy, turns, path / "d.jsonl")
    nlls = {score.turn_id: score.nll for score in scores if score.nll is not None}
    return distances(groups, {turn.id: turn.trajectory.task_id for turn in turns}, nlls)


@pytest.mark.parametrize("spread", [0.5, 6.0])
def test_with_one_accepted_action_both_distances_are_the_same(spread: float, tmp_path: Path) -> None:
    """Under `exact` only the demonstrated action passes, so that its probability is the accepted mass. With the large
    spread a third of the turns has hardly a pass in 16 samples: leaving them out would make PivotRL look nearer."""
    turns, _ = cut([talk(f"t{n}", ["a", "b", "c", "d"]) for n in range(300)])
    policy = Policy(spread=spread)
    found = measured(policy, turns, tmp_path, 16)
    exact = [-math.log(policy.probabilities(turn)[0]) for turn in turns]
    assert found.sft_in_full is not None and found.sft_in_full.mean == pytest.approx(sum(exact) / len(exact))
    assert found.difference is not None and abs(found.difference.mean) < 0.05
    assert found.sentence.startswith("Equal: no difference between imitation and PivotRL can come")
    if spread > 1:
        assert found.num_without_pass > 200 and found.rl is not None
        passing = [g for g in profile(turns, policy, verify, tmp_path / "p.jsonl", ProfileOptions())[0] if g.mean]
        tasks = {turn.id: turn.trajectory.task_id for turn in turns}
        twin = distances(passing, tasks, dict(zip(tasks, exact, strict=True)))
        assert "nearer to accepted actions" in twin.sentence, "the twin that leaves them out is wrong"


def test_several_accepted_actions_are_nearer_and_turns_without_a_pass_are_counted() -> None:
    turns, _ = cut([talk(f"t{n}", ["a"]) for n in range(10)])
    tasks = {turn.id: turn.trajectory.task_id for turn in turns}
    groups = [group(turn, 8, 8) for turn in turns[:7]] + [group(turns[7], 0, 16), group(turns[8], 0, 0, 16)]
    found = distances(groups, tasks, {turn.id: 9.0 for turn in turns})
    assert found.rl is not None and found.rl.num_items == 8 and found.num_without_pass == 1
    assert found.num_without_verdict == 1 and found.sft is not None and found.sft.num_items == 8
    assert "nearer to accepted actions, by 2.3" in found.sentence
    near = distances(groups, tasks, {turn.id: 0.01 for turn in turns})
    assert "nearer to the demonstrated actions" in near.sentence
    never = distances([group(turn, 0, 4) for turn in turns], tasks, {})
    assert never.rl is not None and never.rl.mean == pytest.approx(25 / 12), "H_4, never ln 0"
    assert never.num_without_pass == 10 and never.sft is None and never.difference is None
    warm = distances(groups, tasks, {turn.id: 9.0 for turn in turns}, "sampled at temperature 0.7")
    assert warm.rl is None and warm.sft is None and warm.sft_in_full is not None
    unsure = distances(groups, tasks, {turn.id: 1.4 * (n % 2) for n, turn in enumerate(turns)})
    assert "cannot tell" in unsure.sentence


def test_demonstrations_are_scored_once_as_transformers_scores_them(tmp_path: Path) -> None:
    policy = HfPolicy(model=str(save_tiny_model(tmp_path / "m")), lora_rank=2, dtype="float32", device="cpu")
    turns, _ = cut([talk("t", ["go to the attic", "take the lamp"])])
    (part,) = score_demonstrations(policy, turns[:1], tmp_path / "d.jsonl")
    scores = score_demonstrations(policy, turns, tmp_path / "d.jsonl")
    assert scores[0] == part and len(scores) == 2
    for turn, score in zip(turns, scores, strict=True):
        prompt = list(policy.renderer.prompt(turn))
        ids = policy.renderer.encode_action(turn.expected_action, turn)
        with torch.no_grad():
            logits = policy.model(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
        rows = torch.log_softmax(logits.double(), -1).gather(1, torch.tensor(ids)[:, None])
        assert score.nll == pytest.approx(-float(rows.sum()), abs=2e-3) and score.num_tokens == len(ids)


def test_select_prints_both_and_what_follows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_logs(tmp_path / "logs.jsonl", 8)
    run, scripted = tmp_path / "run", tmp_path / "scripted"
    for directory in (run, scripted):
        assert pivotrl("read", tmp_path / "logs.jsonl", "-o", directory, "--heldout-fraction", "0") == 0
    assert pivotrl("profile", run, "--policy", "tabular", "--max-false-pass", "1") == 0
    assert pivotrl("select", run) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "to accepted actions (PivotRL), mean -ln P" in told and " without a pass" in told
    assert "to demonstrations (imitation), mean -ln p" in told and "nats [95 %]" in told
    found = profile_distances(run)
    assert found.difference is not None and found.sentence in told
    (tmp_path / "s.json").write_text("{}")
    by_script = f"scripted(script='{tmp_path / 's.json'}')"
    assert pivotrl("profile", scripted, "--sampler", by_script, "--max-false-pass", "1") == 0
    assert pivotrl("select", scripted, "--rule", "all") == 0
    assert "Mean -ln p: not scored" in capsys.readouterr().out
