"""Weighted imitation and self-imitation: each step against its formula written anew, and nothing sampled twice."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pivotrl import Action, InputError, TrainingOptions, Verdict, train
from pivotrl.policies.hf import Policy as HfPolicy
from pivotrl.policies.tabular import Policy as TabularPolicy
from pivotrl.protocols import TrainingGroup, Turn, UpdateOptions
from pivotrl.protocols.observing import Observer
from pivotrl.records import SampleGroup
from pivotrl.storage.record_files import read_records
from pivotrl.verifiers.exact import verify
from test_equation_7 import OUTCOMES, RATE, TURNS, buy, moved_policy
from test_training import bit_patterns, even_length
from tiny import save_tiny_model

SIZES: dict[str, Any] = {"turns_per_step": len(TURNS), "group_size": 4, "train_max_tokens": 5, "max_gradient_norm": 1e9}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def options(method: str, num_steps: int = 1, **more: Any) -> TrainingOptions:
    return TrainingOptions(**{"method": method, "num_steps": num_steps, "learning_rate": RATE, **SIZES, **more})


def logprobs(net: Any, prompt: tuple[int, ...], token_ids: tuple[int, ...]) -> torch.Tensor:
    """Of each given token after the prompt [T], by one dense pass."""
    logits = net(input_ids=torch.tensor([[*prompt, *token_ids]])).logits[0, len(prompt) - 1 : -1]
    return torch.log_softmax(logits, dim=-1)[range(len(token_ids)), list(token_ids)]


def off_by(policy: HfPolicy, before: dict[str, torch.Tensor], twin: Any, objective: torch.Tensor) -> float:
    """Largest difference between the step that was taken and the gradient of the objective, as a share of its size."""
    twin.zero_grad()
    objective.backward()
    expected = {name: p.grad for name, p in twin.named_parameters() if p.requires_grad}
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    assert scale > 1e-5
    moved = {name: (p.detach() - before[name]) / RATE for name, p in policy.weights.trained().items()}
    return max(float((moved[name] - expected[name]).abs().max()) for name in expected) / scale


def weights_of(policy: HfPolicy) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in policy.weights.trained().items()}


# --- weighted imitation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora_rank", [0, 4])
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("beta", [0.0, 0.7])
def test_a_step_of_weighted_imitation_is_the_gradient_of_its_formula(
    model: Path, tmp_path: Path, lora_rank: int, level: str, beta: float
) -> None:
    policy = moved_policy(model, lora_rank, tmp_path)
    twin, before = copy.deepcopy(policy.model), weights_of(policy)
    chosen = options("dft", loss_level=level, kl_coefficient=beta)
    metrics = train(policy, TURNS, verify, tmp_path, chosen)[0].metrics

    def objective(weight: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        terms = []
        for turn in TURNS:
            prompt, token_ids = (
                policy.renderer.prompt(turn),
                policy.encode_action(turn, turn.expected_action).token_ids_T,
            )
            new = logprobs(twin, prompt, token_ids)
            with torch.no_grad():
                if lora_rank == 0:
                    reference = logprobs(policy.weights.frozen_copy, prompt, token_ids)
                else:
                    with twin.disable_adapter():
                        reference = logprobs(twin, prompt, token_ids)
            away = reference - new
            terms.append(weight(new) * new - beta * (away.exp() - away - 1))
        if level == "token":
            return torch.cat(terms).sum() / sum(map(len, terms))
        return torch.stack([term.mean() for term in terms]).mean()

    expected = objective(lambda new: new.detach().exp())
    assert metrics["loss/total"] == pytest.approx(-float(expected.detach()), abs=1e-5)
    assert off_by(policy, before, twin, expected) <= 2e-3
    assert off_by(policy, before, twin, objective(torch.ones_like)) > 0.05  # plain imitation is another step
    assert off_by(policy, before, twin, objective(torch.exp)) > 0.05  # and so is a weight with a gradient
    assert ("loss/kl" in metrics) == (beta > 0)


@pytest.mark.parametrize("beta", [0.0, 0.7])
def test_a_step_of_weighted_imitation_on_the_table(tmp_path: Path, beta: float) -> None:
    policy = TabularPolicy(seed=3)
    train(policy, TURNS, verify, tmp_path / "before", options("sft", 2))
    before = {turn.id: policy._logits(turn.id).copy() for turn in TURNS}
    metrics = train(policy, TURNS, verify, tmp_path, options("dft", kl_coefficient=beta))[0].metrics
    losses = []
    for turn in TURNS:
        p = np.exp(before[turn.id]) / np.exp(before[turn.id]).sum()
        initial = TabularPolicy(seed=3).probabilities(turn)
        gradient = p[0] * (np.eye(4)[0] - p) / len(TURNS)
        gradient -= beta * p * (np.log(p / initial) - p @ np.log(p / initial)) / len(TURNS)
        assert (policy._logits(turn.id) - before[turn.id]) / RATE == pytest.approx(gradient, abs=1e-9)
        losses.append(-p[0] * np.log(p[0]) + beta * float(p @ np.log(p / initial)))
    assert metrics["loss/total"] == pytest.approx(np.mean(losses))
    assert metrics["loss/nll"] == pytest.approx(np.mean([-np.log(softmax(before[turn.id])[0]) for turn in TURNS]))


def softmax(logits_M: np.ndarray) -> np.ndarray:
    return np.exp(logits_M) / np.exp(logits_M).sum()


def test_the_anchor_holds_the_policy_near_its_reference(model: Path, tmp_path: Path) -> None:
    def drift(coefficient: float) -> float:
        policy = HfPolicy(model=str(model), lora_rank=4, dtype="float32", device="cpu")
        chosen = options("dft", 15, learning_rate=1e-2, kl_coefficient=coefficient)
        train(policy, TURNS, verify, tmp_path / str(coefficient), chosen)
        kl = policy.score_text("question 0.0", "a00")[1]
        assert kl is not None
        return kl

    assert drift(1.0) < 0.75 * drift(0.0)


# --- self-imitation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", ["all", "signal"])
def test_fresh_self_imitation_is_reinforce_with_rewards_of_one_and_zero(model: Path, tmp_path: Path, over: str) -> None:
    policy = moved_policy(model, 4, tmp_path)
    twin, before = copy.deepcopy(policy.model), weights_of(policy)
    groups = buy(policy, tmp_path, OUTCOMES)
    metrics = train(policy, TURNS, verify, tmp_path, options("self_imitation", average_over=over))[0].metrics

    def objective(failed: float) -> torch.Tensor:
        total, num_tokens = torch.zeros(()), 0
        for turn, group, told in zip(TURNS, groups, OUTCOMES, strict=True):
            if over == "signal" and "1" not in told:
                continue
            for completion, outcome in zip(group.completions_G, told, strict=True):
                new = logprobs(twin, policy.renderer.prompt(turn), completion.token_ids_T)
                total = total + {"1": 1.0, "0": failed, "?": 0.0}[outcome] * new.sum()
                num_tokens += len(new) * (outcome != "?")
        return total / num_tokens

    assert off_by(policy, before, twin, objective(0.0)) <= 2e-3
    assert off_by(policy, before, twin, objective(-1.0)) > 0.1  # failed samples are not pushed down
    assert (metrics["groups/with_verdict"], metrics["groups/with_signal"]) == (5, 3)
    assert metrics["samples/without_verdict"] == 6


class Counting(TabularPolicy):
    """Counts what it, and its reference, are asked for."""

    def __init__(self) -> None:
        super().__init__(seed=3)
        self.asked: list[str] = []
        self.lessons: list[list[TrainingGroup]] = []

    def sample(self, turns: Any, *rest: Any) -> Any:
        self.asked += [f"policy {turn.id}" for turn in turns]
        return super().sample(turns, *rest)

    @property
    def reference(self) -> TabularPolicy:
        asked, untrained = self.asked, super().reference

        class Reference:
            identity = untrained.identity
            fits = untrained.fits

            def sample(self, turns: Any, *rest: Any) -> Any:
                asked.extend(f"reference {turn.id}" for turn in turns)
                return untrained.sample(turns, *rest)

        return Reference()  # type: ignore[return-value]

    def update(self, groups: Any, learning_rate: float, given: UpdateOptions) -> dict[str, float]:
        self.lessons.append(list(groups))
        return super().update(groups, learning_rate, given)


ONCE = "self_imitation(of='reference')"


def first_two(turn: Turn, action: Action) -> Verdict:
    menu = TabularPolicy(seed=3).menu(turn)
    return Verdict.passed() if action in menu[:2] else Verdict.failed("wrong")


def test_samples_of_the_reference_are_drawn_once_and_imitated_whenever_their_turn_comes_back(tmp_path: Path) -> None:
    policy = Counting()
    chosen = options(ONCE, 6, turns_per_step=2, group_size=8, learning_rate=2.0)
    rows = train(policy, TURNS, first_two, tmp_path, chosen)
    assert sorted(policy.asked) == sorted(f"reference {turn.id}" for turn in TURNS)
    assert [row.metrics["samples/total"] for row in rows] == [16.0] * 3 + [0.0] * 3
    stored = {group.turn_id: group for group in read_records(tmp_path / "groups.jsonl", SampleGroup)}
    for lesson in policy.lessons:
        for group in lesson:
            known = stored[group.turn.id]
            accepted = [c for c, v in zip(known.completions_G, known.verdicts_G, strict=True) if v.outcome == "pass"]
            assert list(group.completions_G) == accepted and set(group.advantages_G) == {1.0}
    untrained = TabularPolicy(seed=3)
    assert all(policy.probabilities(turn)[:2].sum() > untrained.probabilities(turn)[:2].sum() for turn in TURNS)


@pytest.mark.parametrize("method", ["dft", "self_imitation", ONCE])
@pytest.mark.parametrize("stop_at", [1, 3])
def test_an_interrupted_training_ends_with_the_same_bits(
    model: Path, tmp_path: Path, method: str, stop_at: int
) -> None:
    chosen = options(
        method, 5, turns_per_step=3, learning_rate=1e-2, train_max_tokens=80, group_size=6, checkpoint_every=2
    )

    def fresh() -> HfPolicy:
        return HfPolicy(model=str(model), lora_rank=4, dtype="float32", device="cpu")

    class Stop(Observer):
        def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
            if done == stop_at:
                raise KeyboardInterrupt

    whole = fresh()
    metrics = train(whole, TURNS, even_length, tmp_path / "whole", chosen)
    assert sum("loss/total" in row.metrics for row in metrics) >= 3
    with pytest.raises(KeyboardInterrupt):
        train(fresh(), TURNS, even_length, tmp_path / "cut", chosen, Stop())
    again = fresh()
    resumed = train(again, TURNS, even_length, tmp_path / "cut", chosen)
    assert bit_patterns(again) == bit_patterns(whole)
    without_times = [
        [{k: v for k, v in row.metrics.items() if not k.startswith("time/")} for row in rows]
        for rows in (metrics, resumed)
    ]
    assert without_times[0] == without_times[1]
    if method != "dft":
        first, second = ((tmp_path / name / "groups.jsonl").read_bytes() for name in ("whole", "cut"))
        assert first == second


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "dft", "importance_cap": 2.0}, "--importance-cap 2.0 does nothing when imitating"),
        ({"method": ONCE, "importance_cap": 2.0}, "--importance-cap 2.0 does nothing with --method"),
        ({"method": ONCE, "kl_coefficient": 0.1}, "--kl-coefficient 0.1 does nothing with --method"),
        ({"method": ONCE, "average_over": "signal"}, "--average-over signal does nothing with --method"),
        ({"method": "self_imitation", "train_temperature": 0.0}, "gives groups of equal samples"),
        ({"method": "self_imitation(of='nobody')"}, "of"),
    ],
)
def test_options_without_effect_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        TrainingOptions(**given)
