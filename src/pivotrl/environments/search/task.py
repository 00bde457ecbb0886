"""One question: the agent searches, opens pages, and answers with a message."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pivotrl.environments.search.index import words
from pivotrl.judging.answers.accepted import judge_answer
from pivotrl.protocols import Observation
from pivotrl.reading.formats.search_tasks import Page, Question
from pivotrl.records import Action, Message, Tool, ToolCall
from pivotrl.records.strict_json import parse_arguments

if TYPE_CHECKING:
    from pivotrl.environments.search.corpora import Corpus

MAX_WORDS = 32
"""Longer queries are not executed: whoever pastes a page into the query says nothing of what is missing."""
_MAX_CALLS = 8
_SNIPPET = 160
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|\n+")  # noqa: RUF001
SYSTEM = (
    "Answer the question from the pages of a small library. Search it, open pages, and search again with what you "
    "learned. When you know the answer, reply without a tool call, with one line: Answer: <the answer and nothing else>"
)


def _tool(name: str, argument: str, description: str, meaning: str) -> Tool:
    properties = {argument: {"type": "string", "description": meaning}}
    parameters = {"type": "object", "properties": properties, "required": [argument], "additionalProperties": False}
    return Tool(name=name, description=description, parameters=parameters)


TOOLS = (
    _tool("search", "query", "Find pages by the words in them. Returns the best pages, best first.", "A few words."),
    _tool("open", "id", "Read a page that a search has shown.", "The page's id, as shown in brackets."),
)
_ARGUMENT = {"search": "query", "open": "id"}


@dataclass(frozen=True)
class Shown:
    """What an episode shows, see :func:`pivotrl.environments.search.make_environments`."""

    results: int = 5
    max_turns: int = 16
    page_characters: int = 4000


class Task:
    """A question as an environment. A message without a call is the answer and ends the episode.

    ``seen`` holds what the agent was shown of each page, by id: snippets, then the page. ``read`` holds the opened
    pages.
    """

    context_window: int | None = None
    tools = TOOLS

    def __init__(self, corpus: Corpus, question: Question, shown: Shown = Shown()) -> None:
        self.task_id, self.tags = question.id, {"kind": question.kind}
        self.question, self.corpus, self.shown = question, corpus, shown
        self.seen: dict[str, str] = {}
        self.read: set[str] = set()
        self.asked: list[str] = []
        self._num_turns = 0

    @property
    def metadata(self) -> dict[str, Any]:
        """For verifiers and the lint; the agent never sees it."""
        titles = {name: self.page(name).title for name in self.question.evidence}
        return {
            "domain": "search",
            "corpus": self.corpus.sha256,
            "evidence": titles,
            "answers": list(self.question.answers),
        }

    def page(self, name: str) -> Page:
        return self.corpus.pages[self.corpus.place_of[name]]

    @property
    def evidence_recall(self) -> float | None:
        """The share of the evidence that the agent was shown, in a result or opened; None if none is known."""
        needed = self.question.evidence
        return sum(name in self.seen for name in needed) / len(needed) if needed else None

    def reset(self) -> tuple[Message, ...]:
        self.seen, self.read, self.asked, self._num_turns = {}, set(), [], 0
        return (Message(role="system", content=SYSTEM), Message(role="user", content=self.question.question))

    def step(self, action: Action) -> Observation:
        self._num_turns += 1
        if not action.tool_calls:
            return self._answered(action.content or "")
        told = [self._called(call, number) for number, call in enumerate(action.tool_calls)]
        messages = tuple(
            Message(role="tool", content=text, tool_call_id=call.id)
            for call, (text, _) in zip(action.tool_calls, told, strict=True)
        )
        fault = "not_executed" if any(is_fault for _, is_fault in told) else ""
        observation = Observation(messages, returned=[text for text, _ in told], fault=fault)
        if self._num_turns < self.shown.max_turns:
            return observation
        return dataclasses.replace(observation, reward=0.0, done=True, reason=self._ending("too_many_turns"))

    def _called(self, call: ToolCall, number: int) -> tuple[str, bool]:
        """(text for the agent, whether nothing was executed)"""
        if number >= _MAX_CALLS:
            return f"[not executed: at most {_MAX_CALLS} calls at a time]", True
        try:
            argument = argument_of(call)
        except ValueError as error:
            return f"[not executed: {error}]", True
        return self._searched(argument) if call.name == "search" else self._opened(argument)

    def _searched(self, query: str) -> tuple[str, bool]:
        asked = words(query)
        if not asked:
            return "[not executed: the query holds no word to search for]", True
        if len(query.split()) > MAX_WORDS or len(asked) > MAX_WORDS:
            return f"[not executed: a query has at most {MAX_WORDS} words]", True
        self.asked.append(query)
        lines = []
        for place in self.corpus.index.search(query, self.shown.results):
            page = self.corpus.pages[place]
            snippet = _snippet(page.text, set(asked))
            self.seen[page.id] = f"{self.seen.get(page.id, page.title)}\n{snippet}"
            lines.append(f"[{page.id}] {' '.join(page.title.split())}: {snippet}")
        return "\n".join(lines) or "No page holds a word of this query.", False

    def _opened(self, name: str) -> tuple[str, bool]:
        name = name.strip().strip("[]")
        if name not in self.seen:
            return "[not executed: no search has shown a page with this id]", True
        page, limit = self.page(name), self.shown.page_characters
        cut = f"\n[cut to {limit:,} of {len(page.text):,} characters]" if len(page.text) > limit else ""
        self.read.add(name)
        self.seen[name] += f"\n{page.text[:limit]}"
        return f"{page.title}\n\n{page.text[:limit]}{cut}", False

    def _answered(self, text: str) -> Observation:
        outcome, _ = judge_answer(self.question.answers, text, self.question.question)
        reward = None if outcome is None else float(outcome)
        reason = "answer_undecided" if outcome is None else "answered_right" if outcome else "answered_wrong"
        return Observation((), reward, done=True, reason=self._ending(reason))

    def _ending(self, reason: str) -> str:
        needed = self.question.evidence
        return f"{reason}, evidence {sum(name in self.seen for name in needed)}/{len(needed)}" if needed else reason

    def state(self) -> Any:
        """What the agent was shown of which page."""
        return {"seen": dict(sorted(self.seen.items())), "read": sorted(self.read)}

    def controls(self) -> Iterator[tuple[Task, bool]]:
        return iter(())  # an action can print only pages, so equal answers mean equal looks

    def close(self) -> None:
        """Nothing to release: episodes share the corpus."""


def argument_of(call: ToolCall) -> str:
    """The one argument of a call of ``search`` or ``open``.

    Raises:
        ValueError: it is another call; the message tells the agent.
    """
    name = _ARGUMENT.get(call.name)
    if name is None:
        raise ValueError("the tools are search and open")
    arguments = parse_arguments(call.arguments)
    value = arguments.get(name)
    if len(arguments) != 1 or not isinstance(value, str):
        raise ValueError(f"call {call.name} with a text {name!r}")
    return value


def _snippet(text: str, asked: set[str]) -> str:
    """The sentence with the most words of the query, the first of equals, cut."""
    sentences = [sentence for sentence in _SENTENCE.split(text[:20_000]) if sentence.strip()] or [""]
    best = max(sentences, key=lambda sentence: len(asked.intersection(words(sentence))))
    best = " ".join(best.split())
    return best if len(best) <= _SNIPPET else best[:_SNIPPET] + "..."
