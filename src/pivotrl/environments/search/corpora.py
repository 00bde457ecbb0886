"""A corpus with its index and its questions: a user's folder, or the built-in ``places``."""

from __future__ import annotations

import functools
from pathlib import Path

from pivotrl.environments.search import places
from pivotrl.environments.search.index import Index
from pivotrl.protocols import InputError
from pivotrl.reading.formats.search_tasks import Page, Question, load_pages, load_questions
from pivotrl.storage.record_files import sha256_of_json

PLACES = "places"
_FEW = 24


class Corpus:
    """Pages, their index, and the questions of a folder."""

    def __init__(self, pages: tuple[Page, ...], questions: tuple[Question, ...]) -> None:
        self.pages, self.place_of = pages, {page.id: place for place, page in enumerate(pages)}
        self.sha256 = sha256_of_json([[page.id, page.title, page.text] for page in pages])[:16]
        self.index = Index(pages)
        self._questions = {question.id: question for question in questions}

    def names(self, first: int, count: int | None) -> list[str]:
        """The ids of ``count`` questions from number ``first`` on; None: all."""
        return list(self._questions)[first : None if count is None else first + count]

    def question(self, name: str) -> Question:
        """Raises:
        KeyError: there is no such question.
        """
        return self._questions[name]


class Places(Corpus):
    """The built-in corpus: as many questions as anybody wants, each made when it is asked for."""

    def __init__(self, num_pages: int) -> None:
        self._world = places.make_world(num_pages)
        super().__init__(self._world.pages, ())

    def names(self, first: int, count: int | None) -> list[str]:
        return [f"places{len(self.pages)}-{number}" for number in range(first, first + (count or _FEW))]

    def question(self, name: str) -> Question:
        prefix, _, number = name.rpartition("-")
        if prefix != f"places{len(self.pages)}" or not number.isdecimal() or len(number) > 9:
            raise KeyError(name)
        return self._world.question(int(number), name)


@functools.lru_cache(maxsize=4)
def open_corpus(root: str, pages: int) -> Corpus:
    """A corpus, indexed once in this process.

    Raises:
        InputError: the folder or a file in it is invalid, or a package is missing.
    """
    if root == PLACES:
        return Places(pages)
    folder = Path(root)
    if not folder.is_dir():
        raise InputError(f"search: {root!r} is neither a folder with corpus.jsonl and questions.jsonl nor '{PLACES}'")
    found = load_pages(folder / "corpus.jsonl")
    return Corpus(found, load_questions(folder / "questions.jsonl", found))
