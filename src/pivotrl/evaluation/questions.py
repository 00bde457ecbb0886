"""Questions outside the task: how a file states them, and who judges the answers.

A question has the fields ``id``, ``source`` and ``prompt``, and one way to be judged:

- ``answer``: the right answer. The verifier ``answer`` compares.
- ``answer`` and ``options``: the policy is not asked. The right option must be the most likely one.
- ``instructions``: instructions that a program can check, see :mod:`pivotrl.verifiers.instructions`.
- ``reasoning_gym``: the place of a generated task, see :mod:`pivotrl.verifiers.reasoning_gym`.

``max_tokens`` limits the answer in place of ``--eval-max-tokens``. ``examples``, a list of objects with ``prompt`` and
``answer``, come first in the chat and show the form of an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pivotrl import plugins
from pivotrl.evaluation.texts import read_rows, text_of
from pivotrl.protocols import InputError, Turn, Verifier
from pivotrl.records import Action, Message, Trajectory, Verdict

CHECKED = {"instructions": ("loose", "share"), "reasoning_gym": ("partial",)}
"""Fields that say how an answer is checked. Each is also the verifier's name; with it the finer scores it gives."""

Question = Mapping[str, Any]


class Questions(tuple[dict[str, Any], ...]):
    """Questions, with the file they come from."""

    path: str | None = None


def load_questions(path: Path) -> Questions:
    """Questions outside the task, one JSON object per line. Other fields than those above are ignored.

    Raises:
        InputError: the file is missing, or a line is not such an object, has an empty text or a repeated id.
    """
    found = Questions(read_rows(path, "question", _question))
    found.path = str(path)
    return found


def _question(entry: Any) -> dict[str, Any]:
    judged = [field for field in ("answer", *CHECKED) if isinstance(entry, dict) and field in entry]
    if isinstance(entry, dict) and len(judged) != 1:
        said = f"it has {' and '.join(judged)}" if judged else "it has none of them"
        raise ValueError(f"give one of 'answer', {', '.join(map(repr, CHECKED))}; {said}")
    texts = ("id", "source", "prompt", *(field for field in judged if field == "answer"))
    question: dict[str, Any] = text_of(entry, texts)
    if "options" in entry:
        question["options"] = _options(entry["options"], question.get("answer"))
    if "examples" in entry:
        given = entry["examples"]
        if not isinstance(given, list):
            raise ValueError("'examples' is not a list of objects with prompt and answer")
        question["examples"] = [text_of(example, ("prompt", "answer")) for example in given]
    if "max_tokens" in entry:
        question["max_tokens"] = entry["max_tokens"]
        if type(question["max_tokens"]) is not int or question["max_tokens"] < 1:
            raise ValueError("'max_tokens' is not a whole number above 0")
    if "instructions" in entry:
        given = entry["instructions"]
        if not isinstance(given, list) or not given or not all(isinstance(one, dict) and "id" in one for one in given):
            raise ValueError("'instructions' is not a list of objects with an 'id' each")
        question["instructions"] = given
    if "reasoning_gym" in entry:
        given = entry["reasoning_gym"]
        if not isinstance(given, dict) or not {"dataset", "seed", "index"} <= set(given):
            raise ValueError("'reasoning_gym' is not an object with dataset, seed and index")
        if not all(type(given[key]) is int and given[key] >= 0 for key in ("seed", "index")):
            raise ValueError("'seed' and 'index' of 'reasoning_gym' must be whole numbers, 0 or more")
        question["reasoning_gym"] = given
    return question


def _options(options: Any, answer: str | None) -> list[str]:
    if answer is None:
        raise ValueError("'options' need the right one as 'answer'")
    if not isinstance(options, list) or not all(isinstance(option, str) and option.strip() for option in options):
        raise ValueError("'options' is not a list of texts")
    if len(set(options)) != len(options) or len(options) < 2:
        raise ValueError("'options' must be two or more different texts")
    if answer not in options:
        raise ValueError(f"'answer' {answer!r} is not among the options")
    return list(options)


def text_turns(questions: Sequence[Question]) -> list[Turn]:
    """Each question as a turn: after the examples a user asks. A right answer, if there is one, is the expected action;
    how it is checked stands in the trajectory's metadata. The task is the question's id."""
    return [
        Turn(
            Trajectory(
                id=f"{question['source']}/{question['id']}",
                task_id=question["id"],
                messages=tuple(_messages(question)),
                metadata={
                    "source": question["source"],
                    **{field: question[field] for field in CHECKED if field in question},
                },
            ),
            2 * len(question.get("examples", ())) + 1,
        )
        for question in questions
    ]


def _messages(question: Question) -> Iterator[Message]:
    for exchange in (*question.get("examples", ()), question):
        yield Message(role="user", content=exchange["prompt"])
        if "answer" in exchange:
            yield Message(role="assistant", content=exchange["answer"])


@dataclass(frozen=True)
class AnswerVerifier:
    """Passes each answer on to the verifier that its question names."""

    verifiers: Mapping[str, Verifier]
    """By field; ``answer`` judges what no other field does."""

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        named = next((field for field in CHECKED if field in turn.trajectory.metadata), "answer")
        return self.verifiers[named](turn, action)


def answer_verifier(questions: Sequence[Question]) -> AnswerVerifier:
    """The verifiers that these questions need. Each check is tried once, so that a fault shows before anything is
    sampled.

    Raises:
        InputError: a package is missing, or a check cannot work as it is written; the message names the question.
    """
    asked = [question for question in questions if "options" not in question]
    named = {next((field for field in CHECKED if field in question), "answer") for question in asked}
    judge = AnswerVerifier({name: plugins.load("verifiers", name) for name in sorted(named)})
    path = getattr(questions, "path", None)
    for question, turn in zip(asked, text_turns(asked), strict=True):
        if any(field in question for field in CHECKED):
            try:
                judge(turn, Action(content="x"))
            except InputError as error:
                place = f"{path}, question" if path else "question"
                raise InputError(f"{place} {question['id']!r}: {error}") from error
    return judge
