"""Reference texts outside the task: how likely their answers are under a policy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pivotrl.options import flag
from pivotrl.protocols import InputError, Policy
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.records import RetentionResult
from pivotrl.records.strict_json import parse_json
from pivotrl.storage.record_files import RecordFile


def evaluate_retention(
    policy: Policy, texts: Sequence[dict[str, str]], path: Path, observer: Observer = SILENT
) -> list[RetentionResult]:
    """Teacher-forced likelihood of reference answers outside the task, and KL to the reference on the same tokens.

    Raises:
        InputError: the policy cannot score a text or gives it no finite likelihood; the message names the text.
    """
    file = RecordFile(path, RetentionResult, key=lambda result: result.item_id)
    open_texts = [text for text in texts if text["id"] not in file]
    done = len(texts) - len(open_texts)
    observer.progress("retention texts", done, len(texts))
    for number, text in enumerate(open_texts, start=done + 1):
        try:
            nll, kl, num_tokens = policy.score_text(text["prompt"], text["answer"])
        except InputError as error:
            raise InputError(f"reference text {text['id']!r}: {error}") from error
        if not (num_tokens and math.isfinite(nll) and math.isfinite(kl or 0.0)):
            raise InputError(
                f"reference text {text['id']!r}: its {num_tokens} answer tokens have no finite likelihood under "
                "this policy; remove the text or fix the weights"
            )
        result = RetentionResult(item_id=text["id"], source=text["source"], nll=nll, kl=kl, num_tokens=num_tokens)
        file.append([result])
        observer.progress("retention texts", number, len(texts))
    return list(file)


_TEXT_KEYS = ("id", "source", "prompt", "answer")


class ReferenceTexts(tuple[dict[str, str], ...]):
    """Texts outside the task, with the file they come from."""

    path: str | None = None


def load_retention(path: Path, max_texts: int | None = None) -> ReferenceTexts:
    """Reference texts, one JSON object per line with ``id``, ``source``, ``prompt`` and ``answer``. Only a line feed
    ends a line.

    Args:
        max_texts: how many to take, from the first.

    Raises:
        InputError: the file is missing, or a line is not such an object, has an empty text or a repeated id.
    """
    if max_texts is not None and max_texts < 1:
        raise InputError(f"{flag('retention_texts')} must be at least 1, not {max_texts}; leave it out to take all")
    found = ReferenceTexts(read_rows(path, "reference text", lambda entry: text_of(entry, _TEXT_KEYS))[:max_texts])
    found.path = str(path)
    return found


def read_rows(path: Path, what: str, read: Callable[[Any], dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file, each with an ``id`` of its own. Only a line feed ends a line.

    Args:
        what: what a row is called in messages.
        read: makes a row of a JSON value, or raises a ValueError that says what is wrong with it.

    Raises:
        InputError: the file is missing or empty, or a line is bad.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a JSON Lines file with id, source, prompt and answer")
    rows: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = read(parse_json(line))
            if row["id"] in rows:
                raise ValueError(f"the id {row['id']!r} occurs twice")
        except ValueError as error:  # covers JSON and UTF-8
            raise InputError(f"{path}:{number} is not a {what}: {error}. Fix or remove the line") from error
        rows[row["id"]] = row
    if not rows:
        raise InputError(f"{path} holds no {what}; give one JSON object per line")
    return list(rows.values())


def text_of(entry: Any, keys: Sequence[str]) -> dict[str, str]:
    """These fields of a JSON object.

    Raises:
        ValueError: it is no object, or a field is missing, no string or empty.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"not an object with {', '.join(keys)}")
    for key in keys:
        if key not in entry:
            raise ValueError(f"{key!r} is missing")
        if not isinstance(entry[key], str):
            raise ValueError(f"{key!r} is not a string")
        if not entry[key].strip():
            raise ValueError(f"{key!r} is empty")
    return {key: entry[key] for key in keys}
