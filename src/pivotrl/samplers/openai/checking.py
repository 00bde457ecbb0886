"""Whether a server is fit to be sampled, found out with about twenty small requests before money is spent."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pivotrl.endpoint import NoAnswer
from pivotrl.protocols import InputError, Turn
from pivotrl.records import Message, Sampling, Trajectory
from pivotrl.samplers.openai import Sampler
from pivotrl.samplers.openai.answers import Choice, Faulty, read_answer
from pivotrl.samplers.openai.models import model_rows
from pivotrl.samplers.openai.tokens import first_difference, is_text_of

Status = Literal["ok", "warning", "fault"]
_N, _AT_ONCE, _TOKENS = 4, 8, 32
_ASK = "Write a short story about a lighthouse, a fox and a storm. Invent the names."
_BRIEF = "Answer with one word: what colour is the sky on a clear day?"


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, whether it holds, and what that means."""

    name: str
    status: Status
    meaning: str


def is_fit(findings: Sequence[Finding]) -> bool:
    """Whether no check found a fault."""
    return all(finding.status != "fault" for finding in findings)


def check_server(sampler: Sampler) -> Iterator[Finding]:
    """The findings, one after the other; after the first that makes the rest meaningless there are no more."""
    try:
        listed = sampler.endpoint.get("models")
        rows = model_rows(listed)
        yield Finding("reachable", "ok", "the server answers")
        if isinstance(listed, NoAnswer) and listed.reason == "unavailable":
            yield Finding("models", "warning", f"it fails to list its models ({listed}); use lists_models=False")
        elif rows is None:
            yield Finding("models", "warning", "it lists no models, so its weights have no identity but their name")
        elif sampler.model in rows:
            yield Finding("models", "ok", f"it serves {sampler.model!r}")
        else:
            yield Finding("models", "fault", f"it does not serve {sampler.model!r}, but {', '.join(rows) or 'nothing'}")
            return
        yield from _Checks(sampler).all()
    except InputError as error:
        yield Finding("requests", "fault", str(error))


class _Checks:
    def __init__(self, sampler: Sampler) -> None:
        self.sampler, self.renderer = sampler, sampler.renderer
        self.asked = _turn(_ASK)

    def all(self) -> Iterator[Finding]:
        (answer,) = self._ask([self._body()])
        choice = self._one(answer)
        if choice is None:
            yield Finding("answers", "fault", f"the simplest request has no usable answer: {answer}")
            return
        if self.renderer is None:
            yield Finding("token ids", "warning", "without --tokenizer messages are sent; its own template is trusted")
            has_content = bool(choice.text.strip() or choice.calls)
            yield _finding("text", has_content, "it answers with text", "its message is empty")
        else:
            yield from self._tokens(choice)
        yield from self._samples()
        yield from self._greedy()
        yield self._stop()
        yield from self._together()

    def _tokens(self, choice: Choice) -> Iterator[Finding]:
        renderer = self.renderer
        assert renderer is not None
        prompt = renderer.prompt(self.asked)
        yield Finding("token ids in", "ok", "it takes prompts as token ids")
        if choice.prompt_ids is None:
            yield Finding("prompt", "warning", "it does not say which tokens it read, so drift would go unseen")
        else:
            difference = first_difference(renderer, prompt, choice.prompt_ids)
            yield _finding(
                "prompt", not difference, "it reads the tokens it was sent", f"it reads others: {difference}"
            )
        ids = choice.token_ids_T
        if ids is None:
            yield Finding("token ids out", "warning", "it gives text alone: samples can be judged, not trained on")
        elif not ids or not is_text_of(choice, renderer):
            yield Finding("token ids out", "fault", "its token ids are not those of its text: another tokenizer?")
        else:
            yield Finding("token ids out", "ok", "its token ids are those of its text")
        yield _logprobs(choice)

    def _samples(self) -> Iterator[Finding]:
        (group,) = self._ask([{**self._body(), "n": _N}])
        if isinstance(group, str):
            yield Finding("n", "warning", f"it refuses n ({group}); use choices='single'")
        else:
            count = _N - group.count(None)
            told = f"of n = {_N} samples it gives {count}; the others are asked for one by one"
            yield _finding("n", count == _N, f"it gives the {_N} samples asked for at once", told, "warning")
            if count == _N:
                yield _distinct("samples of one request", group)
        singles = [self._one(answer) for answer in self._ask([self._body(seed=seed) for seed in (11, 12, 13, 11)])]
        if any(sample is None for sample in singles):
            yield Finding("seeds", "fault", "requests with a seed have no usable answer")
            return
        yield _distinct("samples of several seeds", singles[:3])
        repeats = _said(singles[0]) == _said(singles[3])
        told = "one seed gives different samples, so a profile cannot be drawn again"
        yield _finding("seed repeats", repeats, "one seed gives one sample", told, "warning")

    def _greedy(self) -> Iterator[Finding]:
        samples = [self._one(self._ask([self._body(temperature=0.0)])[0]) for _ in range(3)]
        same = len(set(map(_said, samples))) == 1
        told = "temperature 0 gives different texts: batching or its prefix cache changes rounding"
        yield _finding("greedy repeats", same, "temperature 0 gives one text", told, "warning")

    def _stop(self) -> Finding:
        sample = self._one(self._ask([self._body(temperature=0.0, turn=_turn(_BRIEF), max_tokens=200)])[0])
        if sample is None:
            return Finding("stop", "fault", "a short question has no usable answer")
        ids, ends = sample.token_ids_T, self.renderer.stop_ids if self.renderer else frozenset[int]()
        if sample.finish_reason == "length":
            return Finding(
                "stop", "warning", "a one-word answer ran on for 200 tokens: are its stop tokens the model's?"
            )
        if ids and ids[-1] not in ends:
            return Finding("stop", "warning", "its token ids lack the token that ended the answer")
        return Finding("stop", "ok", "an answer ends by itself, and it says so")

    def _together(self) -> Iterator[Finding]:
        _, alone = self._timed([self._body(seed=99)])
        answers, seconds = self._timed([self._body(seed=100 + number) for number in range(_AT_ONCE)])
        lost = sum(self._one(answer) is None for answer in answers)
        told = f"of {_AT_ONCE} requests at a time {lost} have no usable answer"
        yield _finding("concurrency", not lost, f"{_AT_ONCE} requests at a time are answered", told)
        told = f"{alone:.2f} s for one request of {_TOKENS} tokens, {seconds:.2f} s for {_AT_ONCE} at a time"
        slow = seconds > 0.9 * _AT_ONCE * alone
        yield Finding("latency", "warning" if slow else "ok", f"{told}{': one after the other' if slow else ''}")

    def _body(
        self, *, seed: int | None = None, temperature: float = 1.0, turn: Turn | None = None, max_tokens: int = _TOKENS
    ) -> dict[str, Any]:
        sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
        body = dict(self.sampler.question(turn or self.asked, sampling).body)
        return body if seed is None else {**body, "seed": seed}

    def _ask(self, bodies: Sequence[dict[str, Any]]) -> list[list[Choice | None] | str]:
        """The samples of each request, or why there are none."""
        texts = self.sampler.asking.post(bodies)
        return [self._read(text, body.get("n", 1)) for text, body in zip(texts, bodies, strict=True)]

    def _timed(self, bodies: Sequence[dict[str, Any]]) -> tuple[list[Any], float]:
        started = time.perf_counter()
        return self._ask(bodies), time.perf_counter() - started

    def _read(self, text: str | NoAnswer, num_asked: int) -> list[Choice | None] | str:
        try:
            answer = read_answer(text, num_asked)
            self.sampler.asking.budget.take(answer.usage)
            samples = list(answer.samples)
        except Faulty as fault:
            return f"{fault}, {text}" if isinstance(text, NoAnswer) else str(fault)
        return samples if any(samples) else "server_samples_missing"

    @staticmethod
    def _one(answer: list[Choice | None] | str) -> Choice | None:
        return None if isinstance(answer, str) else answer[0]


def _turn(text: str) -> Turn:
    return Turn(Trajectory(id="check", task_id="check", messages=(Message(role="user", content=text),)), 1)


def _finding(name: str, holds: bool, good: str, bad: str, status: Status = "fault") -> Finding:
    return Finding(name, "ok" if holds else status, good if holds else bad)


def _said(sample: Choice | None) -> object:
    return sample and (sample.text, sample.token_ids_T, sample.calls)


def _distinct(name: str, samples: Sequence[Choice | None]) -> Finding:
    count = len(set(map(_said, samples)))
    told = (
        f"{len(samples)} samples at temperature 1 are {count} different texts: fixed seeds, or temperature is ignored"
    )
    status: Status = "fault" if count == 1 else "warning"
    return _finding(name, count == len(samples), f"{len(samples)} samples at temperature 1 all differ", told, status)


def _logprobs(choice: Choice) -> Finding:
    """The reader has made unknown what is positive or no number."""
    values, ids = choice.logprobs_T, choice.token_ids_T
    if values is None:
        return Finding("log-probs", "warning", "it gives no log-probabilities; they stay unknown")
    if any(value != value for value in values):
        return Finding("log-probs", "warning", "some log-probabilities are missing, no numbers or positive: unknown")
    if ids is not None and len(values) != len(ids):
        return Finding("log-probs", "warning", f"{len(values)} log-probabilities for {len(ids)} tokens: unknown")
    if len(values) >= 2 and not any(values):
        return Finding("log-probs", "warning", "all log-probabilities are 0, which no sample at temperature 1 has")
    return Finding("log-probs", "ok", "one log-probability a token, none above 0")
