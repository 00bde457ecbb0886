"""Search steps: an action passes when it reaches the next evidence that is still missing.

The turn is restored in the environment ``search`` and the action is executed there, so what counts is what the index
really shows. A query reaches a page that is among its results, opening reaches a page that was not read yet, and an
answer passes once the agent was shown what it needs. Which words a query has does not matter, except for those of a
title or an answer that the agent cannot know yet: a query that reaches a page by them alone gets no verdict.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from pivotrl.environments.search import restore
from pivotrl.environments.search.corpora import PLACES, Corpus, open_corpus
from pivotrl.environments.search.index import words
from pivotrl.environments.search.task import Task, argument_of
from pivotrl.judging.answers.accepted import judge_answer
from pivotrl.judging.answers.texts import folded
from pivotrl.options import AtLeast1, check
from pivotrl.protocols import NotRestorable, Turn
from pivotrl.records import Action, ToolCall, Verdict

_LEAST_TELLING = 3
"""Shorter answers stand on too many pages to say that a page tells them."""


@dataclass(frozen=True, kw_only=True)
class SearchStep:
    """Passes a query or an opened page that reaches missing evidence, and the right answer once it was shown.

    Args:
        root, pages, results, page_characters: as for the environment ``search``.
    """

    root: str = PLACES
    pages: AtLeast1 = 2000
    results: AtLeast1 = 5
    page_characters: AtLeast1 = 4000
    _corpus: Corpus | None = field(default=None, init=False, repr=False, compare=False)
    """Held so that the processes that judge are forked with an index that is built."""

    judges_effects: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check(self)
        object.__setattr__(self, "_corpus", open_corpus(self.root, self.pages))

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        """Reasons: reaches_evidence, right_answer; empty_action, answers that are wrong as in
        :func:`pivotrl.judging.answers.accepted.judge_answer`, not_executed, nothing_missing, nothing_new, already_open,
        not_evidence, surplus_call; and without a verdict unshown_words, tells_the_answer, answer_before_evidence,
        no_evidence_known, and those of :class:`NotRestorable`.
        """
        if action.is_empty:
            return Verdict.failed("empty_action")
        try:
            task = restore(
                turn,
                root=self.root,
                pages=self.pages,
                results=self.results,
                max_turns=1_000,
                page_characters=self.page_characters,
            )
        except NotRestorable as error:
            return Verdict.unknown(error.reason, error=error.detail)
        if not action.tool_calls:
            return _judge_answer(task, action.content or "")
        if not task.question.evidence:
            return Verdict.unknown("no_evidence_known")
        verdicts = [_judge_call(task, call) for call in action.tool_calls]
        worst = next((v for outcome in ("fail", "no_verdict") for v in verdicts if v.outcome == outcome), verdicts[0])
        if worst.outcome == "fail" and any(verdict.outcome == "pass" for verdict in verdicts):
            return Verdict.failed("surplus_call", why=worst.reason)
        return worst


def _judge_answer(task: Task, text: str) -> Verdict:
    question = task.question
    outcome, reason = judge_answer(question.answers, text, question.question)
    if outcome is None:
        return Verdict.unknown(reason)
    if not outcome:
        return Verdict.failed(reason)
    if not question.evidence:
        return Verdict.unknown("no_evidence_known")
    missing = [name for name in question.evidence if name not in task.seen]
    shown = any(_tells(task.seen.get(name, ""), question.answers) for name in question.evidence)
    if missing or not (shown or task.read.issuperset(question.evidence)):
        return Verdict.unknown("answer_before_evidence", missing=missing)
    return Verdict.passed("right_answer")


def _judge_call(task: Task, call: ToolCall) -> Verdict:
    """Execute the call; whether it reaches evidence that was missing before it."""
    before, read = dict(task.seen), set(task.read)
    observation = task.step(Action(tool_calls=(call,)))
    if observation.fault:
        return Verdict.failed("not_executed")
    missing = [name for name in task.question.evidence if name not in read]
    if not missing:
        return Verdict.failed("nothing_missing")
    if call.name == "open":
        return _judge_opened(task, argument_of(call).strip().strip("[]"), read)
    reached = [name for name in missing if name not in before and name in task.seen]
    new = [name for name in task.seen if name not in before]
    if not reached:
        told = any(_tells(task.seen[name], task.question.answers) for name in new)
        return Verdict.unknown("tells_the_answer") if told else Verdict.failed("not_evidence" if new else "nothing_new")
    query = argument_of(call)
    if not _is_earned(task, before, query, reached):
        return Verdict.unknown("unshown_words", reached=reached)
    return Verdict.passed("reaches_evidence", reached=reached)


def _judge_opened(task: Task, name: str, read: set[str]) -> Verdict:
    if name in read:
        return Verdict.failed("already_open")
    if name in task.question.evidence:
        return Verdict.passed("reaches_evidence", reached=[name])
    if _tells(task.seen[name], task.question.answers):
        return Verdict.unknown("tells_the_answer")
    return Verdict.failed("not_evidence")


def _is_earned(task: Task, before: dict[str, str], query: str, reached: list[str]) -> bool:
    """Whether the query still reaches one of the pages without words of the evidence's titles, or of the answer, that
    the agent was not shown."""
    secret = set().union(*map(words, task.question.answers))
    secret.update(*(words(task.page(name).title) for name in task.question.evidence))
    secret.difference_update(words(task.question.question), *map(words, before.values()))
    known = [word for word in words(query) if word not in secret]
    found = task.corpus.index.search(" ".join(known), task.shown.results)
    return any(task.corpus.place_of[name] in found for name in reached)


def _tells(text: str, answers: tuple[str, ...]) -> bool:
    """Whether a page shows one of the answers as words of its own."""
    padded = f" {' '.join(words(text))} "
    return any(
        len(folded(answer)) >= _LEAST_TELLING and bool(words(answer)) and f" {' '.join(words(answer))} " in padded
        for answer in answers
    )


verify = SearchStep
