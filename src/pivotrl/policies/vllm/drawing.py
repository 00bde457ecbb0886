"""Samples of one published version as token ids: see :class:`pivotrl.protocols.tokens.Generator`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pivotrl.policies.vllm.canary import NUM_SAMPLES, NUM_TOKENS, SEED
from pivotrl.policies.vllm.replicas import ROUTE
from pivotrl.policies.vllm.server import Unreachable
from pivotrl.protocols import InputError
from pivotrl.protocols.endpoint import NoAnswer
from pivotrl.protocols.tokens import Drawn, Generated
from pivotrl.records import Sampling
from pivotrl.rendering import Renderer
from pivotrl.samplers.openai.answers import Choice, Faulty, read_answer
from pivotrl.samplers.openai.asking import Answers, Asking, Budget, Found, Question
from pivotrl.samplers.openai.tokens import fault_of_tokens, is_plain, token_request


@dataclass(frozen=True)
class Published:
    """Weights on the server.

    Args:
        name: which no other weights have; it keeps their prefix cache apart (``cache_salt``).
        model: under which the server answers with them: the adapter's name, or the base model's.
        version: updates behind them; None if nobody said.
    """

    name: str
    model: str
    version: int | None


class VersionGenerator:
    """Draws from published weights.

    Args:
        endpoint: of the server, or of several that hold the weights (:mod:`pivotrl.policies.vllm.replicas`).
        renderer: whose tokenizer tells whether an answer's text is that of its ids.
        choices, logprobs: see :class:`pivotrl.policies.vllm.Policy`.
    """

    def __init__(
        self,
        endpoint: Answers,
        renderer: Renderer,
        published: Published,
        *,
        identity: Mapping[str, Any],
        max_context: int,
        choices: Literal["n", "single"],
        logprobs: Literal["raw", "processed"],
    ) -> None:
        self.identity, self.max_context, self.published = identity, max_context, published
        self._renderer, self._logprobs = renderer, logprobs
        budget = Budget(None, None)
        self._asking = Asking(endpoint, "completions", published.model, budget, uses_n=choices == "n")

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        keys: Sequence[str],
        num_samples: int,
        sampling: Sampling,
        stop_ids: frozenset[int],
        first: int = 0,
    ) -> Iterator[Generated]:
        """See :class:`pivotrl.protocols.tokens.Generator`. Where the server gives no whole group there is a fault.

        Raises:
            InputError: the server is out of order, was started again, repeats itself, or reads another prompt than the
                one it was sent; or these are samples of a training whose log-probabilities it would not tell.
        """
        questions = [self._question(prompt, key, sampling, stop_ids) for prompt, key in zip(prompts, keys, strict=True)]
        knows_logprobs = self._logprobs == "processed" or is_plain(sampling)
        if not knows_logprobs and self.published.version is not None:
            raise InputError(
                "a training needs the log-probabilities of the distribution that was sampled from: train at "
                "--train-temperature 1, or start vLLM with --logprobs-mode processed_logprobs and give "
                "vllm(logprobs='processed')"
            )
        found = self._asking.ask(questions, num_samples, sampling.seed, first, sampling.temperature)
        for prompt, group in zip(prompts, found, strict=True):
            yield self._generated(group, len(prompt), stop_ids, knows_logprobs)

    def canary_samples(self, prompt: Sequence[int]) -> list[Choice]:
        """What :data:`pivotrl.policies.vllm.canary.Ask` asks for.

        Raises:
            InputError: there is no usable answer.
        """
        body = self._body(prompt, Sampling(max_tokens=NUM_TOKENS), frozenset())
        (text,) = self._asking.post([{**body, "n": NUM_SAMPLES, "seed": SEED}])
        where = f"the canary at {self._asking.endpoint.base_url}"
        if isinstance(text, NoAnswer) and text.reason == "unavailable":
            raise Unreachable(f"{where} has no answer ({text}); repeat the command when the server is back")
        try:
            answer = read_answer(text, NUM_SAMPLES)
        except Faulty as fault:
            raise InputError(
                f"{where} has no answer ({fault}, {text}); look at the server's log and at `pivotrl check-server`"
            ) from None
        if answer.model not in (None, self.published.model):
            raise InputError(
                f"the server at {self._asking.endpoint.base_url} answers as {answer.model!r}, not as "
                f"{self.published.model!r}; give the name under which it serves the model as served"
            )
        return [choice for choice in answer.samples if choice is not None]

    def _body(self, prompt: Sequence[int], sampling: Sampling, stop_ids: frozenset[int]) -> dict[str, Any]:
        body = token_request(self.published.model, prompt, sampling, stop_ids)
        return body | {"cache_salt": self.published.name}

    def _question(self, prompt: Sequence[int], key: str, sampling: Sampling, stop_ids: frozenset[int]) -> Question:
        def fault(choice: Choice) -> str | None:
            if choice.token_ids_T is None:
                return "server_token_ids_missing"
            return fault_of_tokens(choice, self._renderer, tuple(prompt), key, sampling.max_tokens)

        trajectory = key.rpartition("#")[0]  # its prompts begin alike
        return Question(key, {**self._body(prompt, sampling, stop_ids), ROUTE: trajectory}, fault)

    def _generated(self, found: Found, num_prompt: int, stop_ids: frozenset[int], knows_logprobs: bool) -> Generated:
        version = self.published.version
        if found.fault is not None:
            return Generated((), num_prompt, found.fault, version)
        drawn = [_drawn(choice, stop_ids, knows_logprobs) for choice in found.samples]
        return Generated(drawn, num_prompt, None, version)


def _drawn(choice: Choice, stop_ids: frozenset[int], knows_logprobs: bool) -> Drawn:
    ids = choice.token_ids_T or ()
    values = (choice.logprobs_T or ()) if knows_logprobs else ()
    logprobs = values if len(values) == len(ids) else (math.nan,) * len(ids)
    return Drawn(ids, logprobs, bool(ids) and ids[-1] in stop_ids)
