"""Search: questions whose answer lies on several pages, found with the tools ``search`` and ``open``.

The corpus is a folder of the user (:mod:`pivotrl.reading.formats.search_tasks`) or the built-in ``places``
(:mod:`pivotrl.environments.search.places`). Nothing is fetched while an episode runs.
"""

from __future__ import annotations

from pivotrl.environments.search.corpora import PLACES, open_corpus
from pivotrl.environments.search.task import Shown, Task
from pivotrl.judging.replay import replay
from pivotrl.options import AtLeast0, AtLeast1
from pivotrl.protocols import InputError, NotRestorable, Turn


class SearchTasks:
    """Some questions about one corpus."""

    def __init__(self, root: str, pages: int, names: list[str], shown: Shown) -> None:
        self._corpus, self._names, self._shown = open_corpus(root, pages), names, shown

    def tasks(self) -> list[str]:
        return list(self._names)

    def make(self, task: str) -> Task:
        return Task(self._corpus, self._corpus.question(task), self._shown)


def make_environments(
    *,
    root: str = PLACES,
    pages: AtLeast1 = 2000,
    first: AtLeast0 = 0,
    questions: AtLeast1 | None = None,
    results: AtLeast1 = 5,
    max_turns: AtLeast1 = 16,
    page_characters: AtLeast1 = 4000,
) -> SearchTasks:
    """Questions about a corpus, for episodes.

    Args:
        root: a folder with corpus.jsonl and questions.jsonl, or places, which is built in.
        pages: size of places, from 1,000.
        first, questions: the number of the first question, from 0, and how many; None: all of a folder's, 24 of places.
        results: how many results a query gets.
        max_turns: the episode fails after this number of turns.
        page_characters: where a long page is cut when it is opened.
    """
    names = open_corpus(root, pages).names(first, questions)
    if not names:
        raise InputError(f"search: {root} has no questions from number {first} on")
    return SearchTasks(root, pages, names, Shown(results, max_turns, page_characters))


def restore(
    turn: Turn,
    *,
    root: str = PLACES,
    pages: int = 2000,
    results: int = 5,
    max_turns: int = 16,
    page_characters: int = 4000,
) -> Task:
    """The task after replaying the calls before the turn. For options see :func:`make_environments`.

    Raises:
        NotRestorable: ``unknown_question``; ``other_corpus``: the log was made with other pages; ``replay_differs``:
            a tool answers differently from the log, as with another number of results.
        InputError: the corpus cannot be opened.
    """
    corpus = open_corpus(root, pages)
    made_with = turn.trajectory.metadata.get("corpus")
    if made_with not in (None, corpus.sha256):
        raise NotRestorable("other_corpus", f"{turn.trajectory.id} was made with the corpus {made_with}")
    try:
        question = corpus.question(turn.trajectory.task_id)
    except KeyError as error:
        raise NotRestorable("unknown_question", turn.trajectory.task_id) from error
    environment = Task(corpus, question, Shown(results, max_turns, page_characters))
    replay(environment, turn)
    return environment
