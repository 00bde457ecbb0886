"""The committed micro model: plain transformers loads it, and it answers what it answered when it was made."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")

MICRO = Path(__file__).parents[1] / "recipes" / "evidence" / "micro"
sys.path.insert(0, str(MICRO))

import battery  # noqa: E402
import population  # noqa: E402
import unrelated  # noqa: E402

from pivotrl.policies.hf import Policy  # noqa: E402
from pivotrl.records import Action, Sampling  # noqa: E402


def test_plain_transformers_gives_the_recorded_greedy_answers() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MICRO / "model")
    model = AutoModelForCausalLM.from_pretrained(MICRO / "model", dtype=torch.float32)
    assert sum(parameter.numel() for parameter in model.parameters()) < 2_000_000
    texts = [text for text in battery.reference_texts() if text["source"] == "greedy"]
    assert len(texts) >= 50
    for text in texts:
        message = {"role": "user", "content": text["prompt"].removesuffix("\n")}
        prompt = tokenizer.apply_chat_template(
            [message], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        answer = model.generate(**prompt, max_new_tokens=battery.MAX_TOKENS, do_sample=False)
        said = tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
        assert said == text["answer"], text["id"]


def test_the_policy_gives_the_same_answers_and_does_as_the_readme_says() -> None:
    policy = Policy(model=str(MICRO / "model"), lora_rank=0, trainable=False)
    recorded = {text["id"]: text["answer"] for text in battery.reference_texts()}
    asked = battery.turns(12, "reference")
    for turn, group in zip(
        asked, policy.sample(asked, 1, Sampling(temperature=0.0, max_tokens=battery.MAX_TOKENS)), strict=True
    ):
        assert group.completions_G[0].text == recorded[f"{turn.id}-greedy"]
    shares = battery.accuracy(policy)
    measured = json.loads((MICRO / "base.json").read_text())
    assert shares == pytest.approx({kind: measured[f"unrelated/{kind}"] for kind in shares}, abs=0.026)


def test_held_out_questions_are_new_and_an_exact_answer_alone_counts() -> None:
    asked = battery.questions()
    assert {question.kind for question in asked} == set(unrelated.KINDS)
    turn = battery.turns(1)[0]
    assert battery.exact_answer(turn, turn.expected_action).outcome == "pass"
    for wrong in ("", None, f"{turn.expected_action.content}0", f"It is {turn.expected_action.content}"):
        assert battery.exact_answer(turn, Action(content=wrong)).outcome == "fail"


def test_the_population_is_the_same_every_time_and_mostly_canonical() -> None:
    def first(count: int) -> list[population.Text]:
        return [text["errands"] for text, _ in zip(population.texts(5), range(count), strict=False)]

    texts = first(1000)
    assert texts == first(1000)
    moves = [text for text in texts if text.prompt.startswith("left: ")]
    bare = [
        text
        for text in moves
        if text.answer.split()[0] in ("go", "take", "put", "ask") and len(text.answer.split()) == 2
    ]
    assert 0.4 < len(bare) / len(moves) < 0.7
    assert sum("{" in text.answer for text in moves) < 0.04 * len(moves)
