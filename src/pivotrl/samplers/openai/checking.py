"""Whether a server is fit to be sampled, found out with about forty small requests before money is spent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.protocols.endpoint import NoAnswer
from pivotrl.samplers.openai import Sampler
from pivotrl.samplers.openai.adapter_check import check_adapter
from pivotrl.samplers.openai.answers import Choice
from pivotrl.samplers.openai.logprob_check import check_logprobs, check_mode
from pivotrl.samplers.openai.models import model_rows
from pivotrl.samplers.openai.probing import NUM_TOKENS, Finding, Probing, Status, asked, found, one, said
from pivotrl.samplers.openai.tokens import first_difference, is_text_of
from pivotrl.samplers.openai.tool_check import check_tools

_N, _AT_ONCE = 4, 8
_ASK = "Write a short story about a lighthouse, a fox and a storm. Invent the names."
_BRIEF = "Answer with one word: what colour is the sky on a clear day?"


def is_fit(findings: Sequence[Finding]) -> bool:
    """Whether no check found a fault."""
    return all(finding.status != "fault" for finding in findings)


def check_server(sampler: Sampler, adapter: str | None = None) -> Iterator[Finding]:
    """The findings, one after the other; after the first that makes the rest meaningless there are no more.

    Args:
        adapter: a LoRA adapter to load and unload, as a folder on the server's machine.
    """
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
        if adapter is not None:
            yield from check_adapter(Probing(sampler), adapter)
    except InputError as error:
        yield Finding("requests", "fault", str(error))


class _Checks:
    def __init__(self, sampler: Sampler) -> None:
        self.probing, self.renderer = Probing(sampler), sampler.renderer
        self.asked = asked(_ASK)

    def all(self) -> Iterator[Finding]:
        (answer,) = self.probing.ask([self._body()])
        choice = one(answer)
        if choice is None:
            yield Finding("answers", "fault", f"the simplest request has no usable answer: {answer}")
            return
        if self.renderer is None:
            yield Finding("token ids", "warning", "without --tokenizer messages are sent; its own template is trusted")
            has_content = bool(choice.text.strip() or choice.calls)
            yield found("text", has_content, "it answers with text", "its message is empty")
        else:
            yield from self._tokens(choice)
        yield from self._samples()
        yield from self._greedy()
        yield self._stop()
        yield check_tools(self.probing)
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
            yield found("prompt", not difference, "it reads the tokens it was sent", f"it reads others: {difference}")
        ids = choice.token_ids_T
        if ids is None:
            yield Finding("token ids out", "warning", "it gives text alone: samples can be judged, not trained on")
        elif not ids or not is_text_of(choice, renderer):
            yield Finding("token ids out", "fault", "its token ids are not those of its text: another tokenizer?")
        else:
            yield Finding("token ids out", "ok", "its token ids are those of its text")
        yield check_logprobs(choice)
        yield check_mode(self.probing)

    def _samples(self) -> Iterator[Finding]:
        (group,) = self.probing.ask([{**self._body(), "n": _N}])
        if isinstance(group, str):
            yield Finding("n", "warning", f"it refuses n ({group}); use choices='single'")
        else:
            count = _N - group.count(None)
            told = f"of n = {_N} samples it gives {count}; the others are asked for one by one"
            yield found("n", count == _N, f"it gives the {_N} samples asked for at once", told, "warning")
            if count == _N:
                yield _distinct("samples of one request", group)
        singles = [one(answer) for answer in self.probing.ask([self._body(seed) for seed in (11, 12, 13, 11)])]
        if any(sample is None for sample in singles):
            yield Finding("seeds", "fault", "requests with a seed have no usable answer")
            return
        yield _distinct("samples of several seeds", singles[:3])
        repeats = said(singles[0]) == said(singles[3])
        told = "one seed gives different samples, so a profile cannot be drawn again"
        yield found("seed repeats", repeats, "one seed gives one sample", told, "warning")

    def _greedy(self) -> Iterator[Finding]:
        samples = [one(self.probing.ask([self.probing.body(self.asked, temperature=0.0)])[0]) for _ in range(3)]
        same = len(set(map(said, samples))) == 1
        told = "temperature 0 gives different texts: batching or its prefix cache changes rounding"
        yield found("greedy repeats", same, "temperature 0 gives one text", told, "warning")

    def _stop(self) -> Finding:
        sample = one(self.probing.ask([self.probing.body(asked(_BRIEF), temperature=0.0, max_tokens=200)])[0])
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
        _, alone = self.probing.timed([self._body(99)])
        answers, seconds = self.probing.timed([self._body(100 + number) for number in range(_AT_ONCE)])
        lost = sum(one(answer) is None for answer in answers)
        told = f"of {_AT_ONCE} requests at a time {lost} have no usable answer"
        yield found("concurrency", not lost, f"{_AT_ONCE} requests at a time are answered", told)
        told = f"{alone:.2f} s for one request of {NUM_TOKENS} tokens, {seconds:.2f} s for {_AT_ONCE} at a time"
        slow = seconds > 0.9 * _AT_ONCE * alone
        yield Finding("latency", "warning" if slow else "ok", f"{told}{': one after the other' if slow else ''}")

    def _body(self, seed: int | None = None) -> dict[str, Any]:
        return self.probing.body(self.asked, seed=seed)


def _distinct(name: str, samples: Sequence[Choice | None]) -> Finding:
    count = len(set(map(said, samples)))
    told = (
        f"{len(samples)} samples at temperature 1 are {count} different texts: fixed seeds, or temperature is ignored"
    )
    status: Status = "fault" if count == 1 else "warning"
    return found(name, count == len(samples), f"{len(samples)} samples at temperature 1 all differ", told, status)
