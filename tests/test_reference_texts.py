"""Reference texts are scored as the tokenizer reads texts: with its first token, without its last one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from pivotrl.evaluation import evaluate_retention
from pivotrl.policies.hf import Policy
from pivotrl.protocols import InputError
from tiny import save_tiny_model

FIRST, LAST = "<|im_start|>", "<|im_end|>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"), initializer_range=0.2)


def policy_with(folder: Path, reads: str | None) -> Policy:
    """``reads``: what the tokenizer makes of a text ``$A``."""
    policy = Policy(model=str(folder), trainable=False, device="cpu", executor="reference")
    tokenizer: Any = policy.renderer.tokenizer
    if reads is not None:
        special = [(text, tokenizer.convert_tokens_to_ids(text)) for text in (FIRST, LAST)]
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=reads, special_tokens=special)
    return policy


@torch.no_grad()
def expected(policy: Policy, before: list[int], scored: list[int]) -> float:
    ids = torch.tensor([[*before, *scored]])
    logprobs = torch.log_softmax(policy.model(ids).logits[0].float(), dim=-1)
    return -sum(float(logprobs[len(before) + i - 1, token]) for i, token in enumerate(scored)) / len(scored)


@pytest.mark.parametrize(
    ("reads", "first", "prompt"),
    [
        (None, [], "Q: 2+2 A: "),
        (f"{FIRST} $A", [1], "Q: 2+2 A: "),
        (f"$A {LAST}", [], "Q: 2+2 A: "),
        (f"{FIRST} $A {LAST}", [1], "Q: 2+2 A: "),
        (f"{FIRST} {FIRST} $A", [1, 1], "Q"),
        (f"{FIRST} $A {LAST}", [1], ""),
        (f"{FIRST} $A", [1], f"a {FIRST} in the text"),
    ],
)
def test_a_text_begins_as_the_tokenizer_begins_it(
    folder: Path, reads: str | None, first: list[int], prompt: str
) -> None:
    policy = policy_with(folder, reads)
    before, answer = policy.renderer.encode_text(prompt), policy.renderer.encode_text("four")
    nll, _, num_tokens = policy.score_text(prompt, "four")
    assert num_tokens == len(answer)
    assert nll == pytest.approx(expected(policy, [*first, *before], answer), abs=1e-5)
    if reads and LAST not in reads and FIRST not in prompt:
        assert [*first, *before] == policy.renderer.tokenizer(prompt).input_ids


def test_a_first_token_with_nothing_before_it_is_not_scored(folder: Path) -> None:
    policy = policy_with(folder, None)
    answer = policy.renderer.encode_text("four")
    nll, _, num_tokens = policy.score_text("", "four")
    assert num_tokens == len(answer) - 1
    assert nll == pytest.approx(expected(policy, answer[:1], answer[1:]), abs=1e-5)


@pytest.mark.parametrize(("prompt", "answer"), [("", "x"), ("Q: ", ""), ("", "")])
def test_a_text_without_a_token_to_score_is_refused(folder: Path, prompt: str, answer: str) -> None:
    with pytest.raises(InputError, match="no token to score"):
        policy_with(folder, None).score_text(prompt, answer)


def test_a_text_longer_than_the_context_is_refused_by_its_id(folder: Path, tmp_path: Path) -> None:
    policy = policy_with(folder, None)
    text = {"id": "long one", "source": "s", "prompt": "word " * policy.max_context, "answer": "four"}
    with pytest.raises(InputError, match=f"'long one': .* exceed the model's context of {policy.max_context}"):
        evaluate_retention(policy, [text], tmp_path / "items.jsonl")
