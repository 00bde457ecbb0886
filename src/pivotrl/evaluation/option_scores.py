"""Questions with options: which option a policy finds most likely as its answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from pivotrl.evaluation.divergence import action_logprobs
from pivotrl.evaluation.questions import Question, text_turns
from pivotrl.protocols import InputError, NotRenderable, Policy, Sampler, Turn
from pivotrl.records import Action, AnswerResult, SampleGroup


def score_options(policy: Sampler, questions: Sequence[Question]) -> list[AnswerResult]:
    """How likely each option is as the whole answer, with the token that ends it; nothing is sampled.

    A question is answered rightly if the right option has the largest log-probability; a tie is wrong. ``margin`` is
    its lead over the best wrong option in nats, below 0 if it is behind. ``right_per_token`` compares the means per
    token instead, which does not favour short options.

    Raises:
        InputError: the policy cannot score actions.
    """
    turns = text_turns(questions)
    groups: dict[str, SampleGroup] = {}
    faults: dict[str, str] = {}
    for question, turn in zip(questions, turns, strict=True):
        try:
            groups[turn.id] = _written(cast(Policy, policy), turn, question["options"])
        except (NotRenderable, InputError) as error:  # it does not fit, or a table lacks it
            faults[turn.id] = str(error)[:200]
    writable = [turn for turn in turns if turn.id in groups]
    scored = action_logprobs(policy, writable, [groups[turn.id] for turn in writable]) if writable else []
    tokens = {turn.id: options for turn, options in zip(writable, scored, strict=True)}
    return [
        _result(question, tokens[turn.id]) if turn.id in tokens else _unscored(question, faults[turn.id])
        for question, turn in zip(questions, turns, strict=True)
    ]


def _written(policy: Policy, turn: Turn, options: Sequence[str]) -> SampleGroup:
    written = tuple(policy.encode_action(turn, Action(content=option)) for option in options)
    return SampleGroup(turn_id=turn.id, completions_G=written)


def _result(question: Question, logprobs_OT: Sequence[Sequence[float]]) -> AnswerResult:
    options, right = list(question["options"]), list(question["options"]).index(question["answer"])
    total_O = [math.fsum(tokens) for tokens in logprobs_OT]
    margin = _lead(total_O, right)
    return AnswerResult(
        item_id=question["id"],
        source=question["source"],
        reward=float(margin > 0),
        reason="most_likely" if margin > 0 else "another_is_more_likely",
        text=options[max(range(len(options)), key=total_O.__getitem__)],
        num_tokens=0,
        scores={
            "margin": margin,
            "right_per_token": float(_lead([sum(its) / len(its) for its in logprobs_OT], right) > 0),
        },
        option_logprobs_O=tuple(total_O),
        option_tokens_O=tuple(map(len, logprobs_OT)),
    )


def _lead(value_O: Sequence[float], right: int) -> float:
    """Of the right option over the best other."""
    return value_O[right] - max(value for place, value in enumerate(value_O) if place != right)


def _unscored(question: Question, fault: str) -> AnswerResult:
    return AnswerResult(
        item_id=question["id"], source=question["source"], reward=None, reason=fault, text="", num_tokens=0
    )
