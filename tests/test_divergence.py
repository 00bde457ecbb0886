"""Forward KL on task states, likelihood of given actions, and answers outside the task.

Run alone: python -m pytest tests/test_divergence.py
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from pivotrl import Action, InputError, cut
from pivotrl.evaluation import (
    accuracy_by_source,
    action_logprobs,
    answer_accuracy,
    can_score,
    draw_reference,
    evaluate_answers,
    kl_per_action,
    task_kl,
    text_turns,
)
from pivotrl.policies.hf import Policy as HfPolicy
from pivotrl.policies.tabular import Policy
from pivotrl.protocols import TrainingGroup, Turn, UpdateOptions
from pivotrl.records import Completion, SampleGroup, Sampling
from pivotrl.samplers.scripted import Sampler as Scripted
from pivotrl.verifiers.answer import verify
from test_evaluation import Says, talk
from tiny import save_tiny_model


def moved(policy: Policy, turns: Sequence[Turn]) -> None:
    """One step towards the demonstrated actions."""
    groups = [TrainingGroup(turn, [policy.encode_action(turn, turn.expected_action)], [1.0]) for turn in turns]
    policy.update(groups, 24.0, UpdateOptions(objective="likelihood", max_gradient_norm=100.0))


def test_the_estimate_is_the_exact_kl_of_the_table(tmp_path: Path) -> None:
    turns, _ = cut([talk(f"t{n}", ["a", "b", "c"]) for n in range(4)])
    policy = Policy()
    groups = draw_reference(policy.reference, turns, 2000, tmp_path / "g.jsonl")
    assert all(result.kl == pytest.approx(0.0, abs=1e-12) for result in task_kl(policy, turns, groups))
    moved(policy, turns)
    results = task_kl(policy, turns, groups)
    for turn, result in zip(turns, results, strict=True):
        before, now = policy.reference.probabilities(turn), policy.probabilities(turn)
        exact = float(np.sum(before * np.log(before / now)))
        assert result.kl == pytest.approx(exact, abs=0.05) and result.kl_per_token == result.kl, "one token an action"
    estimate = kl_per_action(results)
    assert estimate is not None and estimate.num_items == 12 and estimate.num_clusters == 4 and estimate.mean > 0.05


def test_samples_of_the_reference_are_drawn_once(tmp_path: Path) -> None:
    turns, _ = cut([talk("t", ["a", "b"])])
    first = Says({"t": ["x", "y"]}, stop_after=1)
    with pytest.raises(KeyboardInterrupt):
        draw_reference(first, [*turns, *cut([talk("u", ["a"])])[0]], 2, tmp_path / "g.jsonl")
    draw_reference(Says({"t": ["x", "y"]}), turns, 2, tmp_path / "g.jsonl")
    again = Says({"t": ["x", "y"]})
    assert len(draw_reference(again, turns, 2, tmp_path / "g.jsonl")) == 2 and not again.asked


def test_a_model_scores_actions_as_transformers_does(tmp_path: Path) -> None:
    """The oracle: one row per completion, log-softmax over the whole vocabulary, no shared prefix."""
    folder = save_tiny_model(tmp_path / "model")
    policy = HfPolicy(model=str(folder), lora_rank=2, dtype="float32", device="cpu")
    turns, _ = cut([talk("t", ["go to the attic", "take the lamp"]), talk("u", ["look"])])
    groups = draw_reference(policy.reference, turns, 3, tmp_path / "g.jsonl")
    options = UpdateOptions(objective="likelihood")
    policy.update([TrainingGroup(t, [policy.encode_action(t, t.expected_action)], [1.0]) for t in turns], 0.02, options)
    policy.export(tmp_path / "adapter")
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tuned = HfPolicy(model=str(folder), adapter=str(tmp_path / "adapter"), dtype="float32", device="cpu").model
    results = task_kl(policy, turns, groups)
    assert any(abs(result.kl) > 1e-3 for result in results)
    for turn, group, result in zip(turns, groups, results, strict=True):
        prompt = list(policy.renderer.prompt(turn))
        ratios, nlls = [], []
        for completion in group.completions_G:
            ids = list(completion.token_ids_T)
            rows = []
            for model in (plain, tuned):
                with torch.no_grad():
                    logits = model(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
                rows.append(torch.log_softmax(logits.double(), -1).gather(1, torch.tensor(ids)[:, None])[:, 0])
            ratios.append(float((rows[0] - rows[1]).sum()))
            nlls += (-rows[1]).tolist()
        assert result.kl == pytest.approx(sum(ratios) / 3, abs=2e-3)
        assert result.num_tokens == len(nlls) and result.nll_per_token == pytest.approx(sum(nlls) / len(nlls), abs=1e-3)


def test_what_cannot_be_scored_is_refused(tmp_path: Path) -> None:
    turns, _ = cut([talk("t", ["a", "b"])])
    policy = Policy()
    groups = list(policy.sample(turns, 1, Sampling()))
    (tmp_path / "s.json").write_text("{}")
    scripted = Scripted(script=str(tmp_path / "s.json"))
    assert can_score(policy) and not can_score(scripted)
    with pytest.raises(InputError, match="cannot score given actions"):
        action_logprobs(scripted, turns, groups)
    with pytest.raises(ValueError, match="different rendering"):
        action_logprobs(policy, turns, [group.model_copy(update={"prompt_sha256": "0" * 32}) for group in groups])
    with pytest.raises(ValueError, match="not among the 1 turns"):
        task_kl(policy, turns[:1], groups)


class Knows:
    """Answers questions from a table, and notes them."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.identity, self.answers, self.asked = {"policy": "knows"}, answers, list[str]()

    def fits(self, turn: Turn, max_tokens: int) -> bool:
        return "too long" not in (turn.context[-1].content or "")

    def sample(
        self, turns: Sequence[Turn], num_samples: int, sampling: Sampling, first: int = 0
    ) -> Iterator[SampleGroup]:
        assert sampling.temperature == 0.0
        for turn in turns:
            question = turn.context[-1].content or ""
            self.asked.append(question)
            text = self.answers[question]
            done = Completion(
                action=Action(content=text), text=text, token_ids_T=(1,), logprobs_T=(0.0,), finish_reason="stop"
            )
            yield SampleGroup(turn_id=turn.id, completions_G=(done,) * num_samples)


def test_answers_are_judged_by_source_and_asked_once(tmp_path: Path) -> None:
    rows = [("1", "sums", "2+2", "4"), ("2", "sums", "3+4", "7"), ("1b", "dates", "when?", "2024-05-01")]
    questions = [dict(zip(("id", "source", "prompt", "answer"), row, strict=True)) for row in rows]
    questions.append({"id": "9", "source": "sums", "prompt": "too long", "answer": "1"})
    policy = Knows({"2+2": "The answer is 4.", "3+4": "8", "when?": "May 1, 2024"})
    results = evaluate_answers(policy, questions, verify, tmp_path / "a.jsonl")
    assert {r.item_id: r.reward for r in results} == {"1": 1.0, "2": 0.0, "1b": 1.0, "9": None}
    pooled = answer_accuracy(results)
    assert pooled is not None and pooled.num_items == 3 and math.isclose(pooled.mean, 2 / 3)
    by_source = accuracy_by_source(results)
    assert {source: (e.mean, e.num_items) for source, e in by_source.items()} == {"sums": (0.5, 2), "dates": (1.0, 1)}
    again = Knows({})
    assert evaluate_answers(again, questions, verify, tmp_path / "a.jsonl") == results and not again.asked
    assert text_turns(questions)[0].expected_action.content == "4"
