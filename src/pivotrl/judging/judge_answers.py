"""What a judge answers, and the folder of answers that were paid for already."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pivotrl.protocols.endpoint import Endpoint, NoAnswer
from pivotrl.records.strict_json import parse_json
from pivotrl.storage.record_files import sha256_of_json, write_file


class JudgeAnswer(BaseModel):
    """What the model must answer, and nothing else."""

    model_config = ConfigDict(extra="forbid", strict=True)
    why: str = Field(max_length=2000)
    verdict: Literal["same", "first", "second"]


_SCHEMA = {"name": "comparison", "strict": True, "schema": JudgeAnswer.model_json_schema()}


class NoJudgement(Exception):
    """There is no answer that can be used. ``reason``: judge_unavailable, judge_refused or judge_unparsable."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Judgements:
    """Asks a model, and remembers its answers. Several threads may ask.

    Args:
        folder: for answers, one file a question; None keeps none.
    """

    def __init__(self, endpoint: Endpoint, folder: Path | None) -> None:
        self._endpoint, self._folder = endpoint, folder
        self._asked, self._changed = set[str](), threading.Condition()

    def ask(self, questions: Sequence[Mapping[str, Any]]) -> list[JudgeAnswer]:
        """The model's answer to each question (the body of a request), in order; from the folder where it was given
        before. An answer is kept even if another question has none.

        Raises:
            NoJudgement: a question has no answer, or one that is no :class:`JudgeAnswer`.
            InputError: as :meth:`~pivotrl.protocols.endpoint.Endpoint.post_all`.
        """
        if self._folder is None:
            return _all_given(self._send(questions))
        keys = [sha256_of_json(question) for question in questions]
        with self._alone(set(keys)):
            known = {key: _read(path, key) for key, path in zip(keys, map(self._path, keys), strict=True)}
            unknown = [(key, body) for key, body in zip(keys, questions, strict=True) if known[key] is None]
            given = dict[str, JudgeAnswer | NoJudgement](
                zip((key for key, _ in unknown), self._send([body for _, body in unknown]), strict=True)
            )
            for key, body in unknown:
                if isinstance(answer := given[key], JudgeAnswer):
                    entry = {"key": key, "model": body["model"], "answer": answer.model_dump()}
                    write_file(self._path(key), json.dumps(entry))
        return _all_given([known[key] or given[key] for key in keys])

    def _send(self, questions: Sequence[Mapping[str, Any]]) -> list[JudgeAnswer | NoJudgement]:
        if not questions:
            return []
        bodies = [{**body, "response_format": {"type": "json_schema", "json_schema": _SCHEMA}} for body in questions]
        found = self._endpoint.post_all("chat/completions", bodies, optional=("response_format",))
        return [_parse(answer) for answer in found]

    def _path(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / key[:2] / f"{key}.json"

    @contextlib.contextmanager
    def _alone(self, keys: set[str]) -> Iterator[None]:
        """Nobody else asks these questions meanwhile: whoever comes second finds the answer and buys none."""
        with self._changed:
            self._changed.wait_for(lambda: not keys & self._asked)
            self._asked |= keys
        try:
            yield
        finally:
            with self._changed:
                self._asked -= keys
                self._changed.notify_all()


def _all_given(answers: Sequence[JudgeAnswer | NoJudgement]) -> list[JudgeAnswer]:
    for answer in answers:
        if isinstance(answer, NoJudgement):
            raise answer
    return [answer for answer in answers if isinstance(answer, JudgeAnswer)]


def _parse(text: str | NoAnswer) -> JudgeAnswer | NoJudgement:
    if isinstance(text, NoAnswer):
        return NoJudgement("judge_unparsable" if text.reason == "too_large" else f"judge_{text.reason}", str(text))
    try:
        choice = parse_json(text)["choices"][0]
        content = choice["message"]["content"]
        if choice.get("finish_reason") == "length":
            raise ValueError("the answer is cut off")
        return JudgeAnswer.model_validate(parse_json(content))
    except (ValueError, LookupError, TypeError, AttributeError, ValidationError) as error:
        return NoJudgement("judge_unparsable", str(error).splitlines()[0][:200])


def _read(path: Path, key: str) -> JudgeAnswer | None:
    """A damaged file is no answer; it is written anew."""
    try:
        entry = parse_json(path.read_bytes())
        return JudgeAnswer.model_validate(entry["answer"]) if entry["key"] == key else None
    except (OSError, ValueError, LookupError, TypeError):
        return None
