"""Find secrets in every text of a trajectory, and replace them.

A secret is replaced by a name made from a keyed hash: the same secret gets the same name in every place and in every
trajectory of an import, so equal values stay equal, and what a message becomes depends on it and those before it only,
so a trajectory that begins another still does. The key is what keeps a short secret from being guessed from its name;
nobody needs it once the import is done.
"""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from pydantic_core import to_json

from pivotrl.reading.privacy.secret_patterns import AFTER_ESCAPE
from pivotrl.reading.privacy.secrets_scan import CONTEXTUAL, Span, scan
from pivotrl.records import Loss, Message, Record, Tool, Trajectory

MIN_KEY_BYTES = 16
_BETWEEN = "\0"
"""Stands between two texts; no secret holds it."""
_MAX_CLEAN = 64
_MIN_REPEATED = 8
"""Characters of a secret that is looked for without the words that told it."""


class Finding(Record):
    """The position of a secret, never its content."""

    kind: str
    message: int | None
    """Index of the message; None outside of the messages."""
    field: str
    """Such as ``content`` or ``tool_calls[0].arguments``. A field that holds JSON is searched as compact JSON text."""
    start: int
    end: int
    """Characters of the field."""


def find_secrets(trajectory: Trajectory) -> list[Finding]:
    """The secrets of every text: messages, tools, metadata, losses and ids."""
    return [
        Finding(kind=span.kind, message=message, field=field, start=span.start, end=span.end)
        for (message, field), _, spans in _found(list(_texts(trajectory)))
        for span in spans
    ]


class Redactor:
    """Replaces the secrets of trajectories; without a key it only counts them.

    Args:
        key: random bytes, the same for every trajectory of an import.

    Raises:
        ValueError: the key is shorter than 16 bytes or longer than 64.
    """

    def __init__(self, key: bytes | None = None) -> None:
        if key is not None and not MIN_KEY_BYTES <= len(key) <= hashlib.blake2b.MAX_KEY_SIZE:
            raise ValueError(f"a redaction key has 16 to 64 bytes, not {len(key)}")
        self._key = key
        self._clean: set[str] = set()
        """System messages without a secret: many trajectories have the same."""
        self._clean_tools: tuple[Tool, ...] = ()

    def redact(self, trajectory: Trajectory) -> tuple[Trajectory, Counter[str]]:
        """The trajectory without its secrets, and how many of each kind there were.

        Nothing else changes: arguments that are JSON stay JSON, and a second time finds nothing.
        """
        counts: Counter[str] = Counter()
        while found := self._found(trajectory):  # again, for a secret glued to another hides behind it
            counts.update(span.kind for _, _, spans in found for span in spans)
            if self._key is None:
                break
            replaced = {place: self._replace(text, spans) for place, text, spans in found}
            trajectory = _rebuilt(trajectory, replaced)
        return trajectory, counts

    def _found(self, trajectory: Trajectory) -> list[_Found]:
        """The secrets of a trajectory. A system message or tools that held none are not searched again, unless the
        words of a message gave away a secret that may stand there, too."""
        messages = trajectory.messages
        texts = list(_texts(trajectory, without=self._clean, without_tools=self._clean_tools))
        found = _found(texts)
        if any(span.kind in CONTEXTUAL for _, _, spans in found for span in spans):
            found = _found(list(_texts(trajectory)))
        places = {place for place, _, _ in found}
        if len(self._clean) < _MAX_CLEAN:
            systems = (i for i, message in enumerate(messages) if message.role == "system" and message.content)
            self._clean.update(messages[i].content or "" for i in systems if (i, "content") not in places)
        if not any(field.startswith("tools[") for _, field in places):
            self._clean_tools = trajectory.tools
        return found

    def redact_text(self, text: str) -> tuple[str, Counter[str]]:
        """The same for one text, such as a part of a report."""
        counts: Counter[str] = Counter()
        while spans := _secrets(text):
            counts.update(span.kind for span in spans)
            if self._key is None:
                break
            text = self._replace(text, spans)
        return text, counts

    def _replace(self, text: str, spans: Sequence[Span]) -> str:
        parts, end = [], 0
        for span in spans:
            parts += [text[end : span.start], self._name(span.kind, text[span.start : span.end])]
            end = span.end
        return "".join((*parts, text[end:]))

    def _name(self, kind: str, secret: str) -> str:
        assert self._key is not None
        plain = _plain(kind, secret).encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(plain, key=self._key, digest_size=4).hexdigest()
        if kind == "home_path":
            return f"user_{digest}"  # a path stays a path, for the shell too
        return f"<{'SECRET' if kind in CONTEXTUAL else kind.upper()}_{digest}>"


_ESCAPE = re.compile(r"\\+(?:u([0-9a-fA-F]{4})|(/))")
_BLANK = re.compile(r"(?:\s|\\+[nrt])+")


def _plain(kind: str, secret: str) -> str:
    """The secret as its owner would write it, whatever the escapes of JSON and URLs around it."""
    plain = _ESCAPE.sub(lambda found: found[2] or chr(int(found[1], 16)), secret)
    if kind == "private_key":
        return _BLANK.sub("", plain)
    return plain.replace("%40", "@") if kind == "email" else plain


# --- the texts of a trajectory ------------------------------------------------------------------------------------


_Place = tuple[int | None, str]
"""Index of the message, None outside of the messages; and the field."""
_Found = tuple[_Place, str, list[Span]]


def _texts(
    trajectory: Trajectory, *, without: Container[str] = (), without_tools: tuple[Tool, ...] = ()
) -> Iterator[tuple[tuple[int | None, str, int], str]]:
    """(where it is, text) of every text that is not empty: those of the messages first and in order, for they are
    looked at in order. The third part of a place is the number of a call, tool or loss."""
    for index, message in enumerate(trajectory.messages):
        if (content := message.content) and (message.role != "system" or content not in without):
            yield (index, "content", 0), content
        if reasoning := message.reasoning:
            yield (index, "reasoning", 0), reasoning
        for number, call in enumerate(message.tool_calls):
            yield (index, "tool_calls[{}].arguments", number), call.arguments
    if trajectory.tools is not without_tools:
        for number, tool in enumerate(trajectory.tools):
            yield (None, "tools[{}].description", number), tool.description
            yield (None, "tools[{}].parameters", number), _json(tool.parameters)
    for number, loss in enumerate(trajectory.losses):
        yield (None, "losses[{}].detail", number), loss.detail
    yield (None, "metadata", 0), _json(trajectory.metadata)
    yield (None, "id", 0), trajectory.id
    yield (None, "task_id", 0), trajectory.task_id


def _json(value: Mapping[str, Any]) -> str:
    return to_json(value, inf_nan_mode="constants").decode() if value else ""


def _rebuilt(trajectory: Trajectory, replaced: Mapping[_Place, str]) -> Trajectory:
    """The trajectory with other texts where ``(message, field)`` has one."""

    def message(index: int) -> Message:
        old = trajectory.messages[index]
        calls = (
            call.model_copy(update={"arguments": replaced.get((index, f"tool_calls[{i}].arguments"), call.arguments)})
            for i, call in enumerate(old.tool_calls)
        )
        texts = {name: replaced.get((index, name), getattr(old, name)) for name in ("content", "reasoning")}
        return old.model_copy(update={**texts, "tool_calls": tuple(calls)})

    def tool(index: int) -> Tool:
        old = trajectory.tools[index]
        parameters = replaced.get((None, f"tools[{index}].parameters"))
        return old.model_copy(
            update={
                "description": replaced.get((None, f"tools[{index}].description"), old.description),
                "parameters": old.parameters if parameters is None else json.loads(parameters),
            }
        )

    def loss(index: int) -> Loss:
        old = trajectory.losses[index]
        return old.model_copy(update={"detail": replaced.get((None, f"losses[{index}].detail"), old.detail)})

    touched = {index for index, _ in replaced}
    metadata = replaced.get((None, "metadata"))
    return trajectory.model_copy(
        update={
            "messages": tuple(message(i) if i in touched else m for i, m in enumerate(trajectory.messages)),
            "tools": tuple(map(tool, range(len(trajectory.tools)))),
            "losses": tuple(map(loss, range(len(trajectory.losses)))),
            "metadata": trajectory.metadata if metadata is None else json.loads(metadata),
            "id": replaced.get((None, "id"), trajectory.id),
            "task_id": replaced.get((None, "task_id"), trajectory.task_id),
        }
    )


# --- one search over all of them ----------------------------------------------------------------------------------


def _found(texts: Sequence[tuple[tuple[int | None, str, int], str]]) -> list[_Found]:
    """The texts that hold secrets, with their secrets. All texts are searched as one, which is what makes it fast."""
    spans = _secrets(_BETWEEN.join([text for _, text in texts]))
    if not spans:
        return []
    starts = [0, *accumulate(len(text) + len(_BETWEEN) for _, text in texts)]
    found: dict[int, list[Span]] = {}
    for span in spans:
        index = bisect_right(starts, span.start) - 1
        found.setdefault(index, []).append(Span(span.kind, span.start - starts[index], span.end - starts[index]))
    made = []
    for index, local in found.items():
        (message, field, number), text = texts[index]
        made.append(((message, field.format(number)), text, local))
    return made


def _secrets(text: str) -> list[Span]:
    """The secrets of a text. What words gave away as a secret is found again later on, where no words tell.

    Only later on: a message must not become another because of what is said after it.
    """
    spans = scan(text)
    told: dict[str, Span] = {}
    for span in spans:
        if span.kind in CONTEXTUAL:
            told.setdefault(text[span.start : span.end], span)
    for value, first in told.items():
        if len(value) < _MIN_REPEATED or text.find(value, first.end) < 0:
            continue
        again = re.compile(rf"(?:(?<![A-Za-z0-9\\])|{AFTER_ESCAPE}){re.escape(value)}(?![A-Za-z0-9])")
        for match in again.finditer(text, first.end):
            at = bisect_right(spans, match.start(), key=lambda span: span.start)
            free_before = spans[at - 1].end <= match.start()
            if free_before and (at == len(spans) or match.end() <= spans[at].start):
                spans.insert(at, Span(first.kind, *match.span()))
    return spans
