"""Routing: which turns are imitated, which practised, and that the gradient of each is right."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pivotrl import InputError, TrainingOptions, Verdict, cut, train
from pivotrl.policies.hf import Policy as HfPolicy
from pivotrl.policies.tabular import Policy as TabularPolicy
from pivotrl.protocols.observing import Observer
from pivotrl.verifiers.exact import verify
from test_equation_7 import OUTCOMES, RATE, TURNS, buy, moved_policy
from test_imitation_methods import logprobs, off_by, options, weights_of
from test_training import bit_patterns, even_length, logs
from tiny import save_tiny_model

FAIL = ("0000",) * len(TURNS)
IMITATED, PRACTISED = (1, 5), (0, 3, 4)
"""Places in OUTCOMES: no pass among the known verdicts; at least one pass."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_where_everything_fails_the_step_is_that_of_imitation_times_the_weight(
    model: Path, tmp_path: Path, level: str
) -> None:
    policy = moved_policy(model, 4, tmp_path)
    twin, before = copy.deepcopy(policy.model), weights_of(policy)
    buy(policy, tmp_path, FAIL)
    chosen = options("routing(imitation_weight=0.5)", loss_level=level, advantage="group", importance_cap=1.5)
    metrics = train(policy, TURNS, verify, tmp_path, chosen)[0].metrics
    terms = [
        logprobs(twin, policy.renderer.prompt(turn), policy.encode_action(turn, turn.expected_action).token_ids_T)
        for turn in TURNS
    ]
    likelihood = torch.cat(terms).mean() if level == "token" else torch.stack([term.mean() for term in terms]).mean()
    assert off_by(policy, before, twin, 0.5 * likelihood) <= 2e-3
    assert (metrics["groups/imitated"], metrics["groups/with_signal"]) == (6, 0)
    assert "policy/sampler_gap" not in metrics  # nobody sampled the demonstrations

    imitator = moved_policy(model, 4, tmp_path / "sft")
    train(imitator, TURNS, verify, tmp_path / "sft", options("sft", loss_level=level, learning_rate=RATE / 2))
    for name, values in weights_of(imitator).items():
        assert values == pytest.approx(weights_of(policy)[name], abs=1e-5)


def test_with_a_demonstrations_zeros_as_its_log_probabilities_the_step_would_be_another_one(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin of the test above: the cap on importance weights would take a demonstration for a sample of certainty,
    and turn imitation into weighted imitation."""
    monkeypatch.setattr(math, "nan", 0.0)
    policy = moved_policy(model, 4, tmp_path)
    twin, before = copy.deepcopy(policy.model), weights_of(policy)
    buy(policy, tmp_path, FAIL)
    train(policy, TURNS, verify, tmp_path, options("routing", importance_cap=1.5))
    terms = [
        logprobs(twin, policy.renderer.prompt(turn), policy.encode_action(turn, turn.expected_action).token_ids_T)
        for turn in TURNS
    ]
    assert off_by(policy, before, twin, torch.cat(terms).mean()) > 0.1


@pytest.mark.parametrize("over", ["all", "signal"])
def test_a_mixed_batch_on_the_table_is_the_gradient_of_the_formula(tmp_path: Path, over: str) -> None:
    policy = TabularPolicy(seed=3)
    groups = buy(policy, tmp_path, OUTCOMES)
    chosen = options("routing(imitation_weight=2.0)", advantage="group", average_over=over)
    metrics = train(policy, TURNS, verify, tmp_path, chosen)[0].metrics
    counted: list[tuple[int, int, float]] = [(place, 0, 2.0) for place in IMITATED for _ in range(4)]
    for place in PRACTISED:
        known = [
            (c, float(told))
            for c, told in zip(groups[place].completions_G, OUTCOMES[place], strict=True)
            if told != "?"
        ]
        rewards = np.array([reward for _, reward in known])
        if over == "all" or rewards.std() > 0:
            advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
            counted += [(place, c.token_ids_T[0], a) for (c, _), a in zip(known, advantages, strict=True)]
    for place, turn in enumerate(TURNS):
        start = TabularPolicy(seed=3)._logits(turn.id)
        p = np.exp(start) / np.exp(start).sum()
        terms = [a * (np.eye(4)[entry] - p) / len(counted) for where, entry, a in counted if where == place]
        assert (policy._logits(turn.id) - start) / RATE == pytest.approx(np.sum(terms, axis=0) if terms else 0 * p)
    assert (metrics["groups/imitated"], metrics["groups/with_signal"], metrics["groups/sampled"]) == (2, 2, 6)
    assert metrics["policy/sampler_gap"] < 1e-9  # over the samples alone


def test_nothing_happens_where_all_pass_or_nothing_is_known(tmp_path: Path) -> None:
    policy = TabularPolicy(seed=3)
    buy(policy, tmp_path, ("1111", "????", "1111", "?111", "????", "1111"))
    rows = train(policy, TURNS, verify, tmp_path, options("routing"))
    assert "loss/total" not in rows[0].metrics
    assert all((policy._logits(turn.id) == TabularPolicy(seed=3)._logits(turn.id)).all() for turn in TURNS)


def test_it_learns_what_the_policy_never_does_by_itself(tmp_path: Path) -> None:
    turns = [turn for turn in cut(logs(30, 1))[0] if TabularPolicy(seed=3).probabilities(turn)[0] < 0.02]
    assert len(turns) >= 3
    sizes: dict[str, Any] = {"turns_per_step": len(turns), "group_size": 4, "num_steps": 30, "learning_rate": 5.0}
    routed, practised = TabularPolicy(seed=3), TabularPolicy(seed=3)
    train(routed, turns, verify, tmp_path / "routed", TrainingOptions(method="routing", **sizes))
    train(practised, turns, verify, tmp_path / "practised", TrainingOptions(method="pivotrl", **sizes))
    reached, without = (np.mean([p.probabilities(turn)[0] for turn in turns]) for p in (routed, practised))
    assert reached > 0.8 and reached > without + 0.3


@pytest.mark.parametrize("stop_at", [1, 3])
def test_an_interrupted_training_ends_with_the_same_bits(model: Path, tmp_path: Path, stop_at: int) -> None:
    chosen = options(
        "routing", 4, turns_per_step=3, learning_rate=1e-2, train_max_tokens=80, group_size=6, checkpoint_every=2
    )

    def fresh() -> HfPolicy:
        return HfPolicy(model=str(model), lora_rank=4, dtype="float32", device="cpu")

    class Stop(Observer):
        def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
            if done == stop_at:
                raise KeyboardInterrupt

    whole, again = fresh(), fresh()
    train(whole, TURNS, even_length, tmp_path / "whole", chosen)
    with pytest.raises(KeyboardInterrupt):
        train(fresh(), TURNS, even_length, tmp_path / "cut", chosen, Stop())
    train(again, TURNS, even_length, tmp_path / "cut", chosen)
    assert bit_patterns(again) == bit_patterns(whole)
    first, second = ((tmp_path / name / "groups.jsonl").read_bytes() for name in ("whole", "cut"))
    assert first == second


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "routing", "group_size": 1}, "--group-size 1 gives no advantage"),
        ({"method": "routing(imitation_weight=0)"}, "imitation_weight"),
    ],
)
def test_options_without_effect_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        TrainingOptions(**given)


def test_a_verdict_that_is_graded_counts_as_passed_by_its_outcome(tmp_path: Path) -> None:
    """Rewards that differ among failures do not make a turn one to practise."""
    rewards = iter([0.1, 0.3, 0.2, 0.1] * 6)
    policy = TabularPolicy(seed=3)
    graded = lambda turn, action: Verdict.failed("below", next(rewards))  # noqa: E731
    metrics = train(policy, TURNS, graded, tmp_path, options("routing"))[0].metrics
    assert (metrics["groups/imitated"], metrics["groups/with_signal"]) == (6, 0)
