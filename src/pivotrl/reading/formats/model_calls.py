"""Logged model calls, each with the whole request, as the conversations that they were part of.

A call continues another one if it contains everything that the other contained, and the other's answer. Where the
context was condensed, or another agent asks, a new conversation begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pivotrl.records import Loss, Message


@dataclass(frozen=True)
class ModelCall:
    """What the model was sent, and what it answered."""

    messages: tuple[Message, ...]
    answer: Message
    barred: str | None = None
    """Why the answer must not become a candidate, such as ``truncated``."""
    losses: tuple[Loss, ...] = ()
    """Of the request and of the answer, whose index is the number of messages."""
    data: Any = None
    """Whatever the log knows besides."""


@dataclass
class Conversation:
    """Calls that continue each other."""

    calls: list[ModelCall]
    num_dropped: int = 0
    """Answers that the conversation drops: refused by the harness, or requested again."""
    earlier: frozenset[Any] = field(default_factory=frozenset)
    """What was answered before this one began, as far as its first request shows it."""
    resumes: bool = False
    """It begins like an earlier one, whose context was condensed."""

    @property
    def last(self) -> ModelCall:
        return self.calls[-1]

    @property
    def messages(self) -> tuple[Message, ...]:
        """The last request and its answer; earlier answers as they were given, thoughts included."""
        messages = [*self.last.messages, self.last.answer]
        for call in self.calls:
            messages[len(call.messages)] = call.answer
        return tuple(messages)

    @property
    def excluded(self) -> dict[int, str]:
        """Turns of other conversations that this one only shows, and answers that are barred."""
        begins = len(self.calls[0].messages)
        shown = (i for i, m in enumerate(self.last.messages[:begins]) if m.role == "assistant")
        barred = {len(call.messages): call.barred for call in self.calls if call.barred is not None}
        return {i: "context_only" for i in shown if _key(self.last.messages[i]) in self.earlier} | barred

    @property
    def losses(self) -> list[Loss]:
        answers = [loss for call in self.calls for loss in call.losses if loss.message == len(call.messages)]
        found = [loss for loss in self.last.losses if loss.message != len(self.last.messages)] + answers
        if self.num_dropped:
            found.append(Loss(code="branch", detail=f"{self.num_dropped} answers without continuation"))
        if self.resumes:
            found.append(Loss(code="compaction", detail="begins where the context was condensed"))
        return found

    def takes(self, call: ModelCall) -> bool:
        """Add the call if it continues the last one; whether it does."""
        sent = len(self.last.messages)
        if len(call.messages) < sent or not _same(call.messages[:sent], self.last.messages):
            return False
        if len(call.messages) > sent and call.messages[sent].role == "assistant":
            if not _same(call.messages[sent : sent + 1], [self.last.answer]):
                return False
        else:
            self.calls.pop()
            self.num_dropped += 1
        self.calls.append(call)
        return True


def conversations(calls: Iterable[ModelCall]) -> list[Conversation]:
    """The conversations of the calls, which come in the order of time."""
    found: list[Conversation] = []
    by_beginning: dict[Any, list[Conversation]] = {}
    answered: set[Any] = set()
    for call in calls:
        alike = by_beginning.setdefault(_beginning(call.messages), [])
        if not any(conversation.takes(call) for conversation in reversed(alike)):
            resumes = any(_resumes(call.messages, other.calls[0].messages) for other in alike)
            shown = frozenset(key for message in call.messages if (key := _key(message)) in answered)
            made = Conversation([call], earlier=shown, resumes=resumes)
            alike.append(made)
            found.append(made)
        answered.add(_key(call.answer))
    return found


def _beginning(messages: Sequence[Message]) -> Any:
    """What calls of one conversation have in common for sure: the messages up to the first that is no system's."""
    first = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
    return tuple(map(_key, messages[: first + 1]))


def _resumes(messages: Sequence[Message], others: Sequence[Message]) -> bool:
    """Same system message and task, but another course from there."""
    return min(len(messages), len(others)) > 1 and _same(messages[:2], others[:2]) and not _same(messages, others)


def _same(some: Sequence[Message], others: Sequence[Message]) -> bool:
    return len(some) == len(others) and all(_key(one) == _key(other) for one, other in zip(some, others, strict=True))


def _key(message: Message) -> tuple[Any, ...]:
    """What a message says and does; requests seldom repeat its thoughts."""
    return (
        message.role,
        (message.content or "").strip(),
        tuple((call.name, call.arguments) for call in message.tool_calls),
    )
