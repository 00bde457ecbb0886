"""Generated tasks of the package ``reasoning-gym``, judged by the scorer of their dataset.

A task is known by its place: ``{"reasoning_gym": {"dataset": "spell_backward", "seed": 1, "index": 3, "options":
{"max_word_len": 5}}}`` in the trajectory's metadata. It is generated again to judge an answer; the prompt must hold its
question.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
from typing import Any

from pivotrl.plugins.extras import load_package
from pivotrl.protocols import InputError, Turn
from pivotrl.records import Action, Verdict

EVALUATES_ANSWERS = {
    "binary_matrix",
    "codeio",
    "composite",
    "countdown",
    "intermediate_integration",
    "n_queens",
    "polynomial_multiplication",
    "puzzle24",
    "simple_integration",
    "spiral_matrix",
    "string_insertion",
}
"""Their scorers run the answer as Python (``eval``, or sympy's parser, which does the same); ``composite`` may hold
them."""
MAX_CHARACTERS = 10_000


def verify(turn: Turn, action: Action) -> Verdict:
    """Pass when the dataset's scorer gives the answer full marks.

    The answer is what the message has in ``<answer>`` tags, or else the whole message.

    Reasons: match; wrong, empty_action, too_long, unexpected_tool_call; and without a verdict no_task. The details hold
    the scorer's marks as ``scores.partial``.

    Raises:
        InputError: there is no such task, this version generates another one, or its scorer would run the answer.
            Never for an action.
    """
    place = turn.trajectory.metadata.get("reasoning_gym")
    if not place:
        return Verdict.unknown("no_task")
    dataset, entry = _task(json.dumps(place, sort_keys=True))
    asked = next((message.content or "" for message in reversed(turn.context) if message.role == "user"), "")
    if entry["question"].strip() not in asked:
        version = importlib.metadata.version("reasoning-gym")
        raise InputError(
            f"reasoning-gym {version} generates another question at {place}; install the version that the question "
            "was made with, or make it again"
        )
    if action.is_empty:
        return Verdict.failed("empty_action")
    if action.tool_calls:
        return Verdict.failed("unexpected_tool_call")
    text = action.content or ""
    if len(text) > MAX_CHARACTERS:
        return Verdict.failed("too_long")
    marks = float(dataset.score_answer(_package().utils.extract_answer(text) or text.strip(), entry))
    details: dict[str, Any] = {"scores": {"partial": marks}, "expected": str(entry["answer"])[:200]}
    return Verdict.passed(**details) if marks >= 1.0 else Verdict.failed("wrong", **details)


def _package() -> Any:
    return load_package("reasoning_gym", "the verifier 'reasoning_gym'")


@functools.lru_cache(maxsize=4096)
def _task(place: str) -> tuple[Any, dict[str, Any]]:
    """The dataset and the entry at a place."""
    given = json.loads(place)
    name, options = given["dataset"], given.get("options", {})
    if name in EVALUATES_ANSWERS:
        raise InputError(f"the scorer of {name!r} would run the model's answer as Python; choose another dataset")
    try:
        dataset = _package().create_dataset(name, seed=given["seed"], size=given["index"] + 1, **options)
        return dataset, dataset[given["index"]]
    except Exception as error:
        raise InputError(f"reasoning-gym has no task at {given}: {type(error).__name__}: {error}") from error
