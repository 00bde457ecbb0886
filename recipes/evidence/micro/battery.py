"""What the micro model could do before: unrelated questions, and its own answers to them.

    python recipes/evidence/micro/battery.py     # asks the committed model; writes reference_texts.jsonl

`reference_texts()` gives items for `pivotrl.evaluation.evaluate_retention`, `accuracy(policy)` the share of exact
answers, greedily. Questions are held out: no seed of the pretraining draws them.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import unrelated

from pivotrl import Turn, Verdict
from pivotrl.evaluation import ReferenceTexts, load_retention
from pivotrl.protocols import Sampler
from pivotrl.records import Action, Message, Sampling, Trajectory, TurnResult
from pivotrl.rollouts import sample_groups

MODEL = Path(__file__).parent / "model"
TEXTS = Path(__file__).parent / "reference_texts.jsonl"
LONGEST = 12
MAX_TOKENS = 24


def questions(per_kind: int = 40, seed: str = "held out") -> list[unrelated.Question]:
    generator = random.Random(seed)  # noqa: S311
    return [unrelated.draw(generator, kind, LONGEST) for kind in unrelated.KINDS for _ in range(per_kind)]


def turns(per_kind: int = 40, seed: str = "held out") -> list[Turn]:
    """Each question with its right answer as a turn; ids begin with the kind."""
    found = []
    for number, question in enumerate(questions(per_kind, seed)):
        trajectory = Trajectory(
            id=f"{question.kind}-{number}",
            task_id=f"{question.kind}-{number}",
            messages=(
                Message(role="user", content=question.text),
                Message(role="assistant", content=question.answer),
            ),
        )
        found.append(Turn(trajectory, 1))
    return found


def exact_answer(turn: Turn, action: Action) -> Verdict:
    right = (action.content or "").strip() == turn.expected_action.content
    return Verdict.passed() if right else Verdict.failed("wrong_answer")


def results(policy: Sampler, per_kind: int = 40) -> list[TurnResult]:
    """One greedy answer to each question, with a reward of 1 if it is exactly right."""
    asked = turns(per_kind)
    groups = sample_groups(asked, policy, exact_answer, 1, Sampling(temperature=0.0, max_tokens=MAX_TOKENS))
    return [
        TurnResult(
            turn_id=turn.id,
            task_id=turn.trajectory.task_id,
            reward=group.mean,
            reason=group.verdicts_G[0].reason,
            text=group.completions_G[0].text,
            num_tokens=len(group.completions_G[0].token_ids_T),
        )
        for turn, group in zip(asked, groups, strict=True)
    ]


def accuracy(policy: Sampler, per_kind: int = 40) -> dict[str, float]:
    """Share of right answers by kind, and over `all`."""
    found = results(policy, per_kind)
    by_kind = {
        kind: [result.reward or 0.0 for result in found if result.turn_id.startswith(f"{kind}-")]
        for kind in unrelated.KINDS
    }
    shares = {kind: sum(rewards) / len(rewards) for kind, rewards in by_kind.items()}
    return {**shares, "all": sum(shares.values()) / len(shares)}


def reference_texts() -> ReferenceTexts:
    """Right answers, and the base model's own greedy and sampled ones (source `right`, `greedy`, `sampled`)."""
    return load_retention(TEXTS)


def write_texts(policy: Sampler, path: Path, per_kind: int = 12) -> None:
    asked = turns(per_kind, "reference")
    rows = [(turn, "right", turn.expected_action.content) for turn in asked]
    for source, temperature in (("greedy", 0.0), ("sampled", 1.0)):
        sampling = Sampling(temperature=temperature, max_tokens=MAX_TOKENS)
        groups = policy.sample(asked, 1, sampling)
        rows += [(turn, source, group.completions_G[0].text) for turn, group in zip(asked, groups, strict=True)]
    with path.open("w", encoding="utf-8") as file:
        for turn, source, answer in rows:
            if (answer or "").strip():
                row = {
                    "id": f"{turn.id}-{source}",
                    "source": source,
                    "prompt": f"{turn.context[0].content}\n",  # as in pretraining: plain texts end their question so
                    "answer": answer,
                }
                file.write(json.dumps(row) + "\n")


def main() -> None:
    from pivotrl.policies.hf import Policy

    write_texts(Policy(model=str(MODEL), lora_rank=0, trainable=False), TEXTS)


if __name__ == "__main__":
    main()
