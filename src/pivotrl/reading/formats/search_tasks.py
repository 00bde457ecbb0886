"""Search tasks on disk: a folder with ``corpus.jsonl``, a :class:`Page` a line, and ``questions.jsonl``, a
:class:`Question` a line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from pivotrl.protocols import InputError
from pivotrl.storage.record_files import validation_message

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\[\]\s]+$")]
"""An id: without blanks and brackets, since results show it in brackets."""


class _Row(BaseModel):
    """Other fields of a user's file, such as an address, are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)


class Page(_Row):
    """``{"id": "p1", "title": "...", "text": "..."}``; titles may be equal, ids may not."""

    id: Name
    title: str
    text: str


class Question(_Row):
    """``{"id": "q1", "question": "...", "answers": ["..."], "evidence": ["p1", "p7"]}``."""

    id: Name
    question: Text
    answers: tuple[Text, ...]
    """Spellings of the right answer; each of them is right alone."""
    evidence: tuple[Name, ...] = ()
    """Ids of the pages that are needed; none if nobody knows them."""
    kind: str = "question"
    """A group in the report."""


R = TypeVar("R", Page, Question)


def load_pages(path: Path) -> tuple[Page, ...]:
    """The pages of a ``corpus.jsonl``.

    Raises:
        InputError: the file is missing, a line is damaged, an id stands there twice, or there is no page with text.
    """
    pages = _rows(path, Page)
    for number, page in enumerate(pages, start=1):
        if not page.text.strip() and not page.title.strip():
            raise InputError(f"{path}: page {page.id!r}, the {number}th, has neither title nor text; leave it out")
    return pages


def load_questions(path: Path, pages: tuple[Page, ...]) -> tuple[Question, ...]:
    """The questions of a ``questions.jsonl`` about these pages.

    Raises:
        InputError: as :func:`load_pages`, or a question has no answer, or evidence that is not a page.
    """
    known = {page.id for page in pages}
    questions = _rows(path, Question)
    for question in questions:
        if not question.answers:
            raise InputError(f"{path}: question {question.id!r} has no answers; give at least one")
        missing = [name for name in question.evidence if name not in known]
        if missing:
            raise InputError(
                f"{path}: the evidence {missing[0]!r} of question {question.id!r} is not a page of the corpus; "
                "evidence lists ids of pages"
            )
        if len(set(question.evidence)) < len(question.evidence):
            raise InputError(f"{path}: question {question.id!r} lists the same evidence twice")
    return questions


def _rows(path: Path, kind: type[R]) -> tuple[R, ...]:
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); a search folder holds corpus.jsonl and questions.jsonl"
        ) from error
    found: dict[str, R] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = kind.model_validate_json(line)
        except ValidationError as error:
            raise InputError(f"{path}:{number}: {validation_message(error)}") from error
        if row.id in found:
            raise InputError(f"{path}:{number}: the id {row.id!r} stands in the file twice; ids must differ")
        found[row.id] = row
    if not found:
        raise InputError(f"{path} holds no {kind.__name__.lower()}; write one a line, as JSON")
    return tuple(found.values())
