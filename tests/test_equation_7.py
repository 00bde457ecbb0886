"""One step of training against equation 7 written anew: which groups count in which denominators, and where KL acts."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pivotrl import TrainingOptions, Verdict, cut, train
from pivotrl.policies.hf import Policy as HfPolicy
from pivotrl.policies.tabular import Policy as TabularPolicy
from pivotrl.protocols import Policy
from pivotrl.protocols.observing import Observer
from pivotrl.records import SampleGroup, Sampling, StepMetrics
from pivotrl.storage.record_files import RecordFile
from pivotrl.verifiers.exact import verify
from test_training import logs
from tiny import save_tiny_model

OUTCOMES = ("1001", "0000", "????", "?011", "1111", "0?00")
"""Of the samples at each of six turns: pass, fail, no verdict. Only the first and fourth have signal."""
TURNS = cut(logs(6, 1))[0]
CLIP, RATE = {"clip_low": 0.2, "clip_high": 0.28}, 0.5


def verdict(outcome: str) -> Verdict:
    return {"1": Verdict.passed(), "0": Verdict.failed("wrong"), "?": Verdict.unknown("judge_down")}[outcome]


def buy(policy: Policy, folder: Path, outcomes: tuple[str, ...], step: int = 0) -> list[SampleGroup]:
    """Put groups with these verdicts where training looks for what it bought."""
    sampled = policy.sample(TURNS, len(outcomes[0]), Sampling(max_tokens=5, seed=step))
    groups = [
        group.model_copy(update={"verdicts_G": tuple(map(verdict, told)), "step": step})
        for group, told in zip(sampled, outcomes, strict=True)
    ]
    RecordFile(folder / "groups.jsonl", SampleGroup, key=lambda g: f"{g.step}/{g.turn_id}").append(groups)
    return groups


def options(num_steps: int = 1, **more: Any) -> TrainingOptions:
    sizes = {"turns_per_step": len(TURNS), "group_size": 4, "train_max_tokens": 5}
    given = {"learning_rate": RATE, "advantage": "group", "max_gradient_norm": 1e9, **sizes, **CLIP, **more}
    return TrainingOptions(num_steps=num_steps, **given)


def scored(groups: list[SampleGroup], over: str) -> list[tuple[str, list[tuple[Any, float]]]]:
    """Turn -> its completions with a verdict and their advantages, GRPO's form, written anew."""
    found = []
    for group in groups:
        known = [
            (c, v.reward) for c, v in zip(group.completions_G, group.verdicts_G, strict=True) if v.reward is not None
        ]
        rewards = np.array([reward for _, reward in known])
        if len(known) and (over == "all" or rewards.std() > 0):
            advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
            found.append((group.turn_id, [(c, a) for (c, _), a in zip(known, advantages, strict=True)]))
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def moved_policy(model: Path, lora_rank: int, folder: Path) -> HfPolicy:
    """A policy that is not its reference any more, trained by plain gradient descent from here on."""
    policy = HfPolicy(model=str(model), lora_rank=lora_rank, dtype="float32", device="cpu")
    sft = TrainingOptions(method="sft", num_steps=2, turns_per_step=4, learning_rate=1e-2)
    train(policy, TURNS, verify, folder / "before", sft)
    policy.learner.optimizer = torch.optim.SGD(policy.weights.trained().values(), lr=0.0)
    return policy


@pytest.mark.parametrize("lora_rank", [0, 4])
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("beta", [0.0, 0.7])
@pytest.mark.parametrize("over", ["all", "signal"])
def test_a_step_of_a_network_is_the_gradient_of_the_formula(
    model: Path, tmp_path: Path, lora_rank: int, level: str, beta: float, over: str
) -> None:
    policy = moved_policy(model, lora_rank, tmp_path)
    groups = buy(policy, tmp_path, OUTCOMES)
    twin, prompts = copy.deepcopy(policy.model), {turn.id: policy.renderer.prompt(turn) for turn in TURNS}
    before = {name: p.detach().clone() for name, p in policy.weights.trained().items()}
    chosen = options(loss_level=level, kl_coefficient=beta, average_over=over)
    metrics = train(policy, TURNS, verify, tmp_path, chosen)[0].metrics

    def logprobs(net: Any, prompt: tuple[int, ...], token_ids: tuple[int, ...]) -> torch.Tensor:
        logits = net(input_ids=torch.tensor([[*prompt, *token_ids]])).logits[0, len(prompt) - 1 : -1]
        return torch.log_softmax(logits, dim=-1)[range(len(token_ids)), list(token_ids)]

    def reference(prompt: tuple[int, ...], token_ids: tuple[int, ...]) -> torch.Tensor:
        with torch.no_grad():
            if lora_rank == 0:
                return logprobs(policy.weights.frozen_copy, prompt, token_ids)
            with twin.disable_adapter():
                return logprobs(twin, prompt, token_ids)

    terms = []  # (objective of each token, tokens of its completion)
    for turn_id, completions in scored(groups, over):
        for completion, advantage in completions:
            new = logprobs(twin, prompts[turn_id], completion.token_ids_T)
            ratio = (new - new.detach()).exp()
            gain = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.28) * advantage)
            away = reference(prompts[turn_id], completion.token_ids_T) - new
            terms.append(gain - beta * (away.exp() - away - 1))
    if level == "token":
        objective = torch.cat(terms).sum() / sum(map(len, terms))
    else:
        objective = torch.stack([term.mean() for term in terms]).mean()
    objective.backward()
    expected = {name: p.grad for name, p in twin.named_parameters() if p.requires_grad}
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    assert scale > 1e-5
    for name, parameter in policy.weights.trained().items():
        found = (parameter.detach() - before[name]) / RATE
        assert (found - expected[name]).abs().max() <= 2e-3 * scale, name
    assert metrics["loss/total"] == pytest.approx(-float(objective.detach()), abs=1e-5)
    assert (metrics["groups/with_verdict"], metrics["groups/with_signal"], metrics["groups/sampled"]) == (5, 2, 6)
    through = [c for _, cs in scored(groups, over) for c, advantage in cs if beta or advantage]
    assert metrics["tokens/trained"] == sum(len(c.token_ids_T) for c in through)


@pytest.mark.parametrize("beta", [0.0, 0.7])
@pytest.mark.parametrize("over", ["all", "signal"])
def test_a_step_of_the_table_is_the_gradient_of_the_formula(tmp_path: Path, beta: float, over: str) -> None:
    policy = TabularPolicy(seed=3)
    train(policy, TURNS, verify, tmp_path / "before", TrainingOptions(method="sft", num_steps=2, turns_per_step=6))
    groups = buy(policy, tmp_path, OUTCOMES)
    before = {turn.id: policy._logits(turn.id).copy() for turn in TURNS}
    train(policy, TURNS, verify, tmp_path, options(kl_coefficient=beta, average_over=over))
    kept = scored(groups, over)
    total = sum(len(completions) for _, completions in kept)
    by_turn = dict(kept)
    for turn in TURNS:
        p = np.exp(before[turn.id]) / np.exp(before[turn.id]).sum()
        initial = TabularPolicy(seed=3).probabilities(turn)
        gradient = np.zeros(4)
        for completion, advantage in by_turn.get(turn.id, []):
            gradient += advantage * (np.eye(4)[completion.token_ids_T[0]] - p) / total
            gradient -= beta * p * (np.log(p / initial) - p @ np.log(p / initial)) / total
        assert (policy._logits(turn.id) - before[turn.id]) / RATE == pytest.approx(gradient, abs=1e-9)


def test_a_step_with_little_signal_is_a_small_step_unless_asked_otherwise(tmp_path: Path) -> None:
    def step(outcomes: tuple[str, ...], over: str) -> float:
        policy, folder = TabularPolicy(seed=3), tmp_path / f"{over}{outcomes[1]}"
        buy(policy, folder, outcomes)
        train(policy, TURNS, verify, folder, options(average_over=over))
        return float(abs(policy._logits(TURNS[0].id) - TabularPolicy(seed=3)._logits(TURNS[0].id)).max())

    one, all_six = ("1001", *["0000"] * 5), ("1001",) * 6
    assert step(one, "all") == pytest.approx(step(all_six, "all"))  # each pivot weighs a sixth, whatever the others did
    assert step(one, "signal") == pytest.approx(6 * step(all_six, "signal"))


@pytest.mark.parametrize("kind", ["lora", "tabular"])
def test_a_step_without_signal_changes_nothing_not_even_by_momentum(model: Path, tmp_path: Path, kind: str) -> None:
    policy: Any = (
        TabularPolicy(seed=3)
        if kind == "tabular"
        else HfPolicy(model=str(model), lora_rank=4, dtype="float32", device="cpu")
    )
    buy(policy, tmp_path, OUTCOMES)
    train(policy, TURNS, verify, tmp_path, options(learning_rate=1e-2))
    buy(policy, tmp_path, ("0000", "????", "1111", "0000", "?000", "1111"), step=1)

    def state() -> Any:
        if kind == "tabular":
            return {turn.id: policy._logits(turn.id).tolist() for turn in TURNS}
        states = {name: policy.learner.optimizer.state[p] for name, p in policy.weights.trained().items()}
        moments = {f"{name}|{kind}": value.tolist() for name, state in states.items() for kind, value in state.items()}
        return moments | {name: p.tolist() for name, p in policy.weights.trained().items()}

    before = state()
    more = {"learning_rate": 1e-2, "weight_decay": 0.1}
    rows = train(policy, TURNS, verify, tmp_path, options(2, **more))
    assert state() == before
    assert "loss/total" not in rows[1].metrics and rows[1].metrics["groups/with_signal"] == 0
    assert rows[1].metrics["reward/mean"] == pytest.approx(2 / 5)


def test_the_reference_pulls_at_groups_without_signal_but_not_where_nothing_is_known(tmp_path: Path) -> None:
    policy = TabularPolicy(seed=3)
    train(policy, TURNS, verify, tmp_path / "before", TrainingOptions(method="sft", num_steps=2, turns_per_step=6))
    buy(policy, tmp_path, ("0000", "????", "1111", "0000", "?000", "????"))
    before = {turn.id: policy._logits(turn.id).copy() for turn in TURNS}
    rows = train(policy, TURNS, verify, tmp_path, options(kl_coefficient=0.5))
    moved = [turn.id for turn in TURNS if not (policy._logits(turn.id) == before[turn.id]).all()]
    assert moved == [TURNS[i].id for i in (0, 2, 3, 4)]
    assert rows[0].metrics["loss/policy"] == 0.0 < rows[0].metrics["loss/kl"]


def test_what_no_sample_tells_is_left_out_of_the_metrics_and_of_the_note(tmp_path: Path) -> None:
    policy, notes = TabularPolicy(seed=3), []
    buy(policy, tmp_path, ("????",) * 6)

    class Notes(Observer):
        def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
            notes.append(note)

    rows: list[StepMetrics] = train(policy, TURNS, verify, tmp_path, options(), Notes())
    assert not {"reward/mean", "reward/group_variance", "loss/total"} & rows[0].metrics.keys()
    assert rows[0].metrics["samples/without_verdict"] == 24
    assert notes[1:] == ["no verdict · 0/6 groups with signal"]
    assert all(math.isfinite(value) for value in rows[0].metrics.values())
