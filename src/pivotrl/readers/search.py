"""Demonstrations of search: experts of four kinds really search, open what they need, and answer.

- near: a query of words that it was shown, the page, the next query; bare calls.
- far: the same decisions, each with a thought before it.
- detours: finds the answer with a habit that brings nothing. It opens pages that the question does not need, and
  asks for nothing in particular.
- privileged: asks for pages by titles that no result has shown yet.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pivotrl.environments.search import make_environments
from pivotrl.environments.search.corpora import PLACES
from pivotrl.environments.search.index import words
from pivotrl.environments.search.task import TOOLS, Task
from pivotrl.options import AtLeast1, Share
from pivotrl.protocols import InputError, Observation
from pivotrl.records import Action, Message, Refusal, ToolCall, Trajectory

Demonstrator = Literal["near", "far", "detours", "privileged"]
_RANGE = re.compile(r"(\d{1,8})-(\d{1,8})")
_THOUGHTS = (
    (
        "The question names something only by what surrounds it.",
        "Let me see what I have and what the question still lacks.",
        "One page will hardly hold all of this.",
    ),
    (
        "What I read last tells me which words to use now.",
        "A page with the same name may be about something else, so I compare the details.",
        "Before I answer I want to see it on the page itself.",
    ),
    ("So I do this next.", "That leads to the following step.", "I go on like this."),
)
"""One sentence of each makes a thought."""
_COMMON = ("general information", "list of all pages", "help with a question")
"""Queries that ask for nothing."""


def read(
    path: Path,
    *,
    pages: AtLeast1 = 2000,
    results: AtLeast1 = 5,
    page_characters: AtLeast1 = 4000,
    demonstrator: Demonstrator = "near",
    detour_share: Share = 0.35,
) -> Iterator[Trajectory | Refusal]:
    """One answered question per trajectory. A question is refused if it names no evidence, or if the expert finds no
    query for a page.

    Args:
        path: a folder with corpus.jsonl and questions.jsonl; or numbers of questions of places, such as ``0-119``.
        pages, results, page_characters: as for the environment.
        demonstrator: who searches.
        detour_share: share of the steps before which ``detours`` wastes one.

    Raises:
        InputError: ``path`` is neither, or the folder is invalid.
    """
    numbers = _RANGE.fullmatch(str(path))
    if numbers and not path.exists():
        first, last = map(int, numbers.groups())
        if last < first:
            raise InputError(f"search: {path} ends before it begins; give the first and the last question, as in 0-119")
        root, count = PLACES, last - first + 1
    else:
        root, first, count = str(path), 0, None
    options = {"root": root, "pages": pages, "results": results, "page_characters": page_characters}
    environments = make_environments(first=first, questions=count, max_turns=1_000, **options)  # type: ignore[arg-type]
    for name in environments.tasks():
        yield _played(environments.make(name), demonstrator, detour_share)


def _played(task: Task, demonstrator: Demonstrator, detour_share: float) -> Trajectory | Refusal:
    if not task.question.evidence:
        return Refusal(place=task.task_id, reason="the question names no evidence, so an expert cannot be played")
    expert = _Expert(task, demonstrator, detour_share)
    try:
        observation = expert.play()
    except LookupError as error:
        return Refusal(place=task.task_id, reason=str(error))
    if observation.reward != 1.0:
        return Refusal(place=task.task_id, reason=f"the expert's episode ends with {observation.reason}")
    return Trajectory(
        id=f"{task.task_id}-{demonstrator}",
        task_id=task.task_id,
        messages=tuple(expert.messages),
        tools=TOOLS,
        reward=1.0,
        metadata={**task.metadata, "demonstrator": demonstrator, "detours": expert.num_detours},
    )


class _Expert:
    """Plays one question. It knows the evidence; what it asks for it takes from what it was shown."""

    def __init__(self, task: Task, demonstrator: Demonstrator, detour_share: float) -> None:
        self._task, self._style = task, demonstrator
        self._share = detour_share if demonstrator == "detours" else 0.0
        self.messages = list(task.reset())
        self.num_detours = 0
        self._num_calls = 0

    def play(self) -> Observation:
        """Raises:
        LookupError: no query of the expert shows a page.
        """
        task = self._task
        for name in task.question.evidence:
            if name not in task.seen:
                self._waste(name)
                self._call("search", self._query(name))
            self._waste(name)
            self._call("open", name)
        text = f"Answer: {task.question.answers[0]}"
        self.messages.append(Message(role="assistant", content=f"{self._thought()}\n{text}".strip()))
        return task.step(Action(content=self.messages[-1].content))

    def _call(self, tool: str, value: str) -> None:
        self._num_calls += 1
        argument = {"search": "query", "open": "id"}[tool]
        arguments = json.dumps({argument: value}, ensure_ascii=False)
        call = ToolCall(name=tool, arguments=arguments, id=f"call_{self._num_calls}")
        self.messages.append(Message(role="assistant", content=self._thought() or None, tool_calls=(call,)))
        self.messages += self._task.step(Action(tool_calls=(call,))).messages

    def _thought(self) -> str:
        if self._style != "far":
            return ""
        number, sentences = _hash(f"{self._task.task_id}#{len(self.messages)}"), []
        for choices in _THOUGHTS:
            number, chosen = divmod(number, len(choices))
            sentences.append(choices[chosen])
        return " ".join(sentences)

    def _waste(self, name: str) -> None:
        """Now and then, open a page that was shown and is not needed; before any was shown, ask for a common word."""
        number = _hash(f"detour {self._task.task_id} {len(self.messages)}")
        if number % 1_000 >= 1_000 * self._share:
            return
        needed, task = set(self._task.question.evidence), self._task
        idle = [other for other in task.seen if other not in needed and other not in task.read]
        self.num_detours += 1
        if idle:
            self._call("open", idle[number // 1_000 % len(idle)])
        else:
            self._call("search", _COMMON[number // 1_000 % len(_COMMON)])

    def _query(self, name: str) -> str:
        """The first query that shows the page, of those the expert thinks of."""
        task = self._task
        place = task.corpus.place_of[name]
        for query in self._queries(name):
            if words(query) and place in task.corpus.index.search(query, task.shown.results):
                return query
        raise LookupError(f"no query of the expert shows the page {name!r}")

    def _queries(self, name: str) -> Iterator[str]:
        task, page = self._task, self._task.page(name)
        if self._style == "privileged":
            yield page.title
        shown = set(words(task.question.question)).union(*map(words, task.seen.values()))
        text = words(page.text)
        asked = [word for word in dict.fromkeys(words(task.question.question)) if word in text]
        told = [word for word in task.corpus.index.rare(text) if word in shown]
        title = page.title if shown.issuperset(words(page.title)) else ""
        secret = set(words(page.title)).union(*map(words, task.question.answers)) - shown
        near = _near_words(task.question.question, page.text)
        yield near
        yield " ".join(filter(None, [title, *(word for word in asked if word not in words(title))]))
        yield title
        for count in (3, 6):
            yield " ".join(filter(None, [title, *told[:count]]))
        own = [word for word in task.corpus.index.rare(text) if word not in secret]
        for count in (2, 4, 8):
            yield " ".join(filter(None, [title, *reversed(own[-count:])]))
        yield " ".join(own[:6])


def _near_words(question: str, text: str) -> str:
    """The longest run of words that the question and the page share, as the question writes it, with capitals."""
    given, known = question.split(), f" {' '.join(words(text))} "
    best = ""
    for start in range(len(given)):
        for end in range(len(given), start, -1):
            run = " ".join(given[start:end]).strip("?,.;:")
            if len(run) <= len(best):
                break
            if f" {' '.join(words(run))} " in known and words(run):
                best = run
                break
    return best


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
