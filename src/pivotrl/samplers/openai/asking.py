"""Asks a server until each group is whole, or known not to become so."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pivotrl.protocols import InputError
from pivotrl.protocols.endpoint import NoAnswer
from pivotrl.samplers.openai.answers import Answer, Choice, Faulty, has_ended, read_answer
from pivotrl.samplers.openai.money import Prices, Usage
from pivotrl.seeding import derive_seed

_ROUNDS = 4
"""How often samples that are missing are asked for: the first time, and three more."""
_FINAL = {"server_refused", "server_answer_too_large", "server_choices_not_numbered"}
"""Faults that asking again does not mend, or that would favour some samples over others."""
_OUTAGE = 8
"""Turns in a row without samples after which the server, not the turn, is at fault."""
_IMPROBABLE = -25.0
"""Log-probability of a sample that nobody draws twice."""
_LONG, _MANY = 200, 4
"""Where log-probabilities are unknown: characters of a sample, and how many equal ones are no accident."""
_WARM = 0.7
_OPTIONAL = (
    *("return_token_ids", "skip_special_tokens", "spaces_between_special_tokens", "min_p", "repetition_penalty"),
    "cache_salt",
)


class Answers(Protocol):
    """Where requests go: a :class:`pivotrl.protocols.endpoint.Endpoint`, or several servers that act as one."""

    @property
    def base_url(self) -> str: ...

    def post_all(
        self, path: str, bodies: Sequence[Mapping[str, Any]], optional: Sequence[str] = ()
    ) -> list[str | NoAnswer]: ...


@dataclass
class Budget:
    """What this process may still ask for."""

    max_requests: int | None
    max_tokens_total: int | None
    max_cost: float | None = None
    prices: Prices = field(default_factory=Prices)
    num_requests: int = 0
    num_tokens: int = 0
    cost: float = 0.0
    """Money of the requests whose tokens the server counted."""
    num_not_counted: int = 0
    """Answers without a count of tokens."""

    def take(self, usage: Usage) -> float | None:
        """Note what a request used.

        Returns:
            its cost; None if it is unknown.
        """
        self.num_tokens += usage.total
        cost = self.prices.cost(usage)
        self.cost += cost or 0.0
        self.num_not_counted += usage.prompt is None or usage.completion is None
        return cost

    def suffices(self, num_requests: int) -> bool:
        """Whether :meth:`require` would let so many requests pass."""
        try:
            self.require(num_requests)
        except InputError:
            return False
        return True

    def require(self, num_requests: int) -> None:
        """
        Raises:
            InputError: it does not suffice for so many requests.
        """
        if self.max_requests is not None and self.num_requests + num_requests > self.max_requests:
            raise InputError(
                f"the budget of {self.max_requests:,} requests is spent: {self.num_requests:,} are made, and the next "
                f"batch needs {num_requests:,}. Finished work is kept; raise max_requests and repeat the command"
            )
        if self.max_tokens_total is not None and self.num_tokens >= self.max_tokens_total:
            raise InputError(
                f"the budget of {self.max_tokens_total:,} tokens is spent: {self.num_tokens:,} are used. Finished work "
                "is kept; raise max_tokens_total and repeat the command"
            )
        if self.max_cost is not None and self.num_not_counted:
            raise InputError(
                "the server does not count the tokens of its answers, so max_cost cannot hold. Finished work is kept; "
                "leave max_cost out, give max_requests, and repeat the command"
            )
        if self.max_cost is not None and self.cost >= self.max_cost:
            raise InputError(
                f"the budget of {self.max_cost:g} in money is spent: {self.cost:.4g} are used. Finished work is kept; "
                "raise max_cost and repeat the command"
            )


@dataclass(frozen=True)
class Question:
    """A group to be sampled.

    Args:
        key: identifies it, such as a turn's id.
        body: the request without ``n`` and ``seed``.
        fault: says why a sample is none, a stable code; None if it is one.
    """

    key: str
    body: Mapping[str, Any]
    fault: Callable[[Choice], str | None]


@dataclass
class _Group:
    question: Question
    samples: list[Choice | None]
    reason: str = "server_samples_missing"
    is_lost: bool = False
    num_prompt_tokens: int = 0
    cost: float | None = None
    """Money of all requests for it, those included whose answers were of no use; None if unknown."""
    num_paid_tokens: int | None = None
    """Tokens that they sampled, by the server's count."""

    @property
    def missing(self) -> list[int]:
        return [] if self.is_lost else [place for place, sample in enumerate(self.samples) if sample is None]


@dataclass(frozen=True)
class Found:
    """The samples of a question, or why they are not whole."""

    samples: Sequence[Choice]
    fault: str | None
    num_prompt_tokens: int
    cost: float | None = None
    num_paid_tokens: int | None = None


@dataclass
class Asking:
    """
    Args:
        path: ``completions`` or ``chat/completions``.
        uses_n: ask for all samples of a group in one request, without a seed; else each alone, with a seed of its own.
        looks_for_copies: refuse a server whose samples repeat; for tests alone it can be left out.
    """

    endpoint: Answers
    path: str
    model: str
    budget: Budget
    uses_n: bool = True
    looks_for_copies: bool = True
    faults: Counter[str] = field(default_factory=Counter)
    """Everything that went wrong, mended or not, by reason."""
    gives_ids: bool = False
    """Whether the server has given token ids; then a text without them is no sample."""
    _num_failing: int = 0
    _has_served: bool = False
    _failed: set[str] = field(default_factory=set)

    def ask(
        self, questions: Sequence[Question], num_samples: int, seed: int, first: int, temperature: float
    ) -> list[Found]:
        """Samples ``first`` and following of each question, in order.

        Raises:
            InputError: the budget is spent, the server is out of order, or its samples are copies of each other.
        """
        groups = [_Group(question, [None] * num_samples) for question in questions]
        for attempt in range(_ROUNDS):
            wanted = self._wanted(groups, attempt)
            if not wanted or (attempt > 0 and not self.budget.suffices(len(wanted))):
                break  # what the batch has is kept; the next one is told
            self.budget.require(len(wanted))
            bodies = [self._body(groups[place], numbers, seed, first, attempt) for place, numbers in wanted]
            for (place, numbers), text in zip(wanted, self.post(bodies), strict=True):
                self._take(groups[place], numbers, text)
            self._drop_bare_texts(groups)
            for group in groups:
                self._drop_copies(group, temperature)
        self._stop_at_outage(groups)
        return [self._found(group) for group in groups]

    def post(self, bodies: Sequence[Mapping[str, Any]]) -> list[str | NoAnswer]:
        """The answers, in order. Fields that only some servers know are left out where they are refused, but never a
        ``top_k`` that changes the samples."""
        optional = (*_OPTIONAL, *(("top_k",) if bodies[0].get("top_k") == -1 else ()))
        self.budget.num_requests += len(bodies)
        return self.endpoint.post_all(self.path, bodies, optional)

    def _wanted(self, groups: Sequence[_Group], attempt: int) -> list[tuple[int, list[int]]]:
        """(group, numbers of samples) of each request, in the order of the groups."""
        if attempt == 0 and self.uses_n:
            return [(place, group.missing) for place, group in enumerate(groups) if group.missing]
        return [(place, [number]) for place, group in enumerate(groups) for number in group.missing]

    def _body(self, group: _Group, numbers: Sequence[int], seed: int, first: int, attempt: int) -> dict[str, Any]:
        body = dict(group.question.body)
        if len(numbers) > 1:
            return {**body, "n": len(numbers)}
        own = derive_seed(seed, group.question.key, first + numbers[0], attempt)
        return {**body, "seed": own % 2**31}

    def _take(self, group: _Group, numbers: Sequence[int], text: Any) -> None:
        try:
            answer = read_answer(text, len(numbers))
            self._pay(group, answer.usage)
            self._require_model(answer)
        except Faulty as fault:
            if fault.usage != Usage():
                self._pay(group, fault.usage)
            self._note(group, str(fault))
            return
        group.num_prompt_tokens = group.num_prompt_tokens or answer.usage.prompt or 0
        if len(numbers) > 1 and len([sample for sample in answer.samples if sample]) < len(numbers):
            self._note(group, "server_samples_missing")
        for number, sample in zip(numbers, answer.samples, strict=True):
            if sample is None:
                continue
            if not has_ended(sample):
                self._note(group, "server_sample_aborted")
                group.is_lost |= sample.finish_reason == "content_filter"  # decided by what the sample says
            elif reason := group.question.fault(sample):
                self._note(group, reason)
                group.is_lost = True  # another sample in its place would favour those without the fault
            else:
                group.samples[number] = sample

    def _pay(self, group: _Group, usage: Usage) -> None:
        paid = self.budget.take(usage)
        group.cost = group.cost if paid is None else (group.cost or 0.0) + paid
        if usage.completion is not None:
            group.num_paid_tokens = (group.num_paid_tokens or 0) + usage.completion

    def _require_model(self, answer: Answer) -> None:
        """Hosted models are asked by a short name and answer with the long one: ``name-2026-01-01``."""
        name = answer.model
        if name is not None and name != self.model and not name.startswith(f"{self.model}-"):
            raise Faulty("server_answers_with_another_model")

    def _note(self, group: _Group, reason: str) -> None:
        self.faults[reason] += 1
        group.reason = reason
        group.is_lost |= reason in _FINAL

    def _drop_bare_texts(self, groups: Sequence[_Group]) -> None:
        """Nothing vouches for the text of an answer that lacks the token ids which other answers have."""
        self.gives_ids |= any(sample and sample.token_ids_T for group in groups for sample in group.samples)
        for group in groups if self.gives_ids else ():
            for number, sample in enumerate(group.samples):
                if sample and sample.token_ids_T is None:
                    group.samples[number] = None
                    self._note(group, "server_token_ids_missing")

    def _drop_copies(self, group: _Group, temperature: float) -> None:
        """Long samples that are equal were not drawn apart: by one seed on several replicas, or by a server that fills
        up a group.

        Raises:
            InputError: all are.
        """
        if not self.looks_for_copies or temperature < _WARM or group.is_lost:
            return
        seen: dict[tuple[Any, ...], int] = {}
        known = [sample for sample in group.samples if sample]
        counts = Counter(map(_content, known))
        for number, sample in enumerate(group.samples):
            if sample is None or counts[_content(sample)] == 1 or not _is_improbable(sample, counts[_content(sample)]):
                continue
            if counts[_content(sample)] == len(known) == len(group.samples):
                raise InputError(
                    f"all {len(known)} samples at {group.question.key} are the same long text at temperature "
                    f"{temperature:g}: the server repeats itself. Its replicas may share a fixed seed, or it ignores "
                    "seeds; run `pivotrl check-server`, and start each replica with a seed of its own"
                )
            if _content(sample) in seen:
                group.samples[number] = None
                self._note(group, "server_sample_repeated")
            seen[_content(sample)] = number

    def _stop_at_outage(self, groups: Sequence[_Group]) -> None:
        """Turns that failed before, and those that the server refuses, tell nothing new of it. Once it has served, what
        it says at a turn is that turn's fault.

        Raises:
            InputError: the server has given nothing for many turns in a row.
        """
        failing = [group for group in groups if group.is_lost or group.missing]
        if len(failing) < len(groups):
            self._has_served, self._num_failing = True, 0
        for group in failing:
            is_new = group.question.key not in self._failed and group.reason != "server_refused"
            self._num_failing += is_new and not (self._has_served and group.is_lost)
            self._failed.add(group.question.key)
        if self._num_failing >= _OUTAGE and len(failing) == len(groups):
            raise InputError(
                f"the server at {self.endpoint.base_url} has given no usable samples for {self._num_failing} turns in "
                f"a row ({groups[-1].reason}). Finished work is kept; look at `pivotrl check-server`, then repeat the "
                "command"
            )

    def _found(self, group: _Group) -> Found:
        whole = [sample for sample in group.samples if sample is not None]
        is_whole = not group.is_lost and len(whole) == len(group.samples)
        samples, fault = (whole, None) if is_whole else ((), group.reason)
        return Found(samples, fault, group.num_prompt_tokens, group.cost, group.num_paid_tokens)


def _content(sample: Choice) -> tuple[Any, ...]:
    calls = tuple((call.name, call.arguments) for call in sample.calls)
    return sample.text, sample.token_ids_T, calls


def _is_improbable(sample: Choice, count: int) -> bool:
    logprobs_T = sample.logprobs_T or (math.nan,)
    if not any(map(math.isnan, logprobs_T)):
        return sum(logprobs_T) < _IMPROBABLE
    length = len(sample.text) + sum(len(call.arguments) for call in sample.calls)
    return length >= _LONG and count >= _MANY
