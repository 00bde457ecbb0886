"""What the checks of a server share: findings, and small requests with their answers read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pivotrl.protocols import Turn
from pivotrl.protocols.endpoint import NoAnswer
from pivotrl.records import Message, Sampling, Tool, Trajectory
from pivotrl.samplers.openai import Sampler
from pivotrl.samplers.openai.answers import Choice, Faulty, read_answer
from pivotrl.samplers.openai.money import Usage

Status = Literal["ok", "warning", "fault"]
NUM_TOKENS = 32
"""How long an answer to a check may be."""


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, whether it holds, and what that means."""

    name: str
    status: Status
    meaning: str


def found(name: str, holds: bool, good: str, bad: str, status: Status = "fault") -> Finding:
    """A finding in one of two sentences; ``status`` is that of the bad one."""
    return Finding(name, "ok" if holds else status, good if holds else bad)


def asked(text: str, tools: Sequence[Tool] = ()) -> Turn:
    """The turn that answers a user's message."""
    message = Message(role="user", content=text)
    return Turn(Trajectory(id="check", task_id="check", messages=(message,), tools=tuple(tools)), 1)


def said(sample: Choice | None) -> object:
    """What two samples must share to be the same."""
    return sample and (sample.text, sample.token_ids_T, sample.calls)


def one(answer: list[Choice | None] | str) -> Choice | None:
    """The sample of a request for one; None if there is none."""
    return None if isinstance(answer, str) else answer[0]


@dataclass(frozen=True)
class Probing:
    """Asks a server, in the mode of its sampler."""

    sampler: Sampler

    def body(
        self, turn: Turn, *, seed: int | None = None, temperature: float = 1.0, max_tokens: int = NUM_TOKENS
    ) -> dict[str, Any]:
        """A request for one sample."""
        sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
        body = dict(self.sampler.question(turn, sampling).body)
        return body if seed is None else {**body, "seed": seed}

    def ask(self, bodies: Sequence[dict[str, Any]]) -> list[list[Choice | None] | str]:
        """The samples of each request, or why there are none."""
        texts = self.sampler.asking.post(bodies)
        return [self._read(text, body.get("n", 1)) for text, body in zip(texts, bodies, strict=True)]

    def timed(self, bodies: Sequence[dict[str, Any]]) -> tuple[list[list[Choice | None] | str], float]:
        """As :meth:`ask`, with the seconds that it took."""
        started = time.perf_counter()
        return self.ask(bodies), time.perf_counter() - started

    def _read(self, text: str | NoAnswer, num_asked: int) -> list[Choice | None] | str:
        try:
            answer = read_answer(text, num_asked)
        except Faulty as fault:
            if fault.usage != Usage():
                self.sampler.asking.budget.take(fault.usage)
            return f"{fault}, {text}" if isinstance(text, NoAnswer) else str(fault)
        self.sampler.asking.budget.take(answer.usage)
        return list(answer.samples) if any(answer.samples) else "server_samples_missing"
