"""Requests that newer versions of Claude Code log word for word beside the session.

A line ``api-request`` names a request that it continues (``base``), how many of its messages stay (``keep``), and
the hashes of the others (``tail``). Lines ``api-request-blob`` hold the messages of these hashes, except the model's
own, which are the session's assistant lines; ``api-request-shape`` holds the system message and the tools.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pivotrl.reading.chat_messages import text_of
from pivotrl.reading.fields import as_object, each, member, optional
from pivotrl.reading.formats.anthropic_messages import anthropic_messages, anthropic_tools, assistant_message
from pivotrl.reading.formats.model_calls import ModelCall
from pivotrl.reading.formats.session_logs import Entry
from pivotrl.records import Loss, Message


@dataclass(frozen=True)
class Answer:
    """What the session holds as the assistant's, whole."""

    blocks: tuple[Any, ...]
    barred: str | None
    """Why it must not become a candidate."""


@dataclass(frozen=True)
class _Request:
    line: int
    hashes: tuple[str, ...]
    shape: str | None


def has_requests(lines: Sequence[Entry]) -> bool:
    return any(line.get("type") == "api-request" for line in lines)


def model_calls(lines: Sequence[Entry], answers: Mapping[int, Answer]) -> list[ModelCall]:
    """Each request that was answered, with its answer.

    Args:
        answers: by the line at which each begins.

    Raises:
        ValueError: a request is malformed, or names a message that is nowhere in the log.
    """
    messages: dict[str, Any] = {_hash(answer.blocks): answer.blocks for answer in answers.values()}
    shapes: dict[str, Any] = {}
    requests: dict[str, _Request] = {}
    for number, line in enumerate(lines):
        kind = line.get("type")
        if kind == "api-request-blob":
            messages[member(line, "hash", str)] = member(line, "message", dict)
        elif kind == "api-request-shape":
            shapes[member(line, "shapeHash", str)] = member(line, "shape", dict)
        elif kind == "api-request":
            requests[member(line, "id", str)] = _request(line, number, requests)
    answered: dict[tuple[str, ...], Answer] = {}
    calls: list[ModelCall] = []
    order = list(requests.values())
    for request, following in zip(order, [*order[1:], None], strict=True):
        for place, name in enumerate(request.hashes):
            if name not in messages and (answer := answered.get(request.hashes[:place])) is not None:
                messages[name] = answer.blocks  # the harness words some arguments anew, so the hash is another
        end = len(lines) if following is None else following.line
        begins = [number for number in answers if request.line < number < end]
        if begins:
            answered[request.hashes] = answers[min(begins)]
            calls.append(_call(request, answers[min(begins)], messages, shapes))
    return calls


def _hash(blocks: Sequence[Any]) -> str:
    """The hash by which a request names an answer."""
    message = {"role": "assistant", "content": blocks}
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _request(line: Entry, number: int, requests: Mapping[str, _Request]) -> _Request:
    tail = each("tail", member(line, "tail", list), lambda name: member({"hash": name}, "hash", str))
    name, keep = optional(line, "base", str), optional(line, "keep", int) or 0
    base = requests.get(name) if name is not None else None
    if not 0 <= keep <= (0 if base is None else len(base.hashes)):
        raise ValueError(f"the request {line['id']} continues one that is not in the log")
    return _Request(number, ((base.hashes[:keep] if base else ()) + tuple(tail)), optional(line, "shapeHash", str))


def _call(request: _Request, answer: Answer, known: Mapping[str, Any], shapes: Mapping[str, Any]) -> ModelCall:
    shape = as_object(shapes.get(request.shape or "", {}))
    system = text_of(shape.get("system"))
    messages = [Message(role="system", content=system)] if system else []
    losses: list[Loss] = []
    for name in request.hashes:
        lost: list[Loss] = []
        if name not in known:
            raise ValueError(f"the message {name[:12]} of a request is not in the log")
        if isinstance(known[name], dict):
            made = anthropic_messages(known[name], lost)
        else:
            made = [assistant_message(known[name], [])]  # what it lost is told where it is the answer
        losses += [loss.model_copy(update={"message": len(messages) + (loss.message or 0)}) for loss in lost]
        messages += made
    said = assistant_message(answer.blocks, losses, len(messages))
    tools = anthropic_tools(shape.get("tools"))
    return ModelCall(tuple(messages), said, answer.barred, tuple(losses), tools)
