"""A model under its name on the server: its renderer, its limits, its backend, and the samples of a request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from pivotrl.protocols.live import Ask
from pivotrl.records import Sampling
from pivotrl.rendering import Renderer
from pivotrl.serving.backends import Backend, Begun
from pivotrl.serving.fields import Wanted
from pivotrl.serving.refusals import Refused, not_supported
from pivotrl.serving.texts import SampleText


@dataclass(frozen=True)
class Served:
    """One model."""

    name: str
    renderer: Renderer
    max_context: int
    sha256: str
    """Of everything that determines its samples: weights, templates, end tokens."""
    backend: Backend
    root: str
    """Where its weights are, for people."""

    def row(self, created: int) -> dict[str, Any]:
        """Its entry in the list of models."""
        return {
            "id": self.name,
            "object": "model",
            "created": created,
            "owned_by": "pivotrl",
            "root": self.root,
            "sha": self.sha256,
            "max_model_len": self.max_context,
        }

    def ask(self, prompt: Sequence[int], wanted: Wanted, default_tokens: int | None, field: str) -> Ask:
        """
        Args:
            default_tokens: how long a sample may be if the request does not say; None: as the context allows.
            field: of the request that holds the prompt.

        Raises:
            Refused: prompt and samples exceed the context, or the backend cannot tell what is wanted.
        """
        if not prompt:
            raise Refused("the prompt is empty; give at least one token", param=field)
        room = self.max_context - len(prompt)
        asked = wanted.max_tokens if wanted.max_tokens is not None else default_tokens
        if room < (asked or 1):
            new = "" if asked is None else f" and {asked} new ones"
            raise Refused(
                f"{len(prompt)} prompt tokens{new} exceed this model's context of {self.max_context} tokens",
                param="max_tokens" if asked is not None and room >= 1 else field,
                code="context_length_exceeded",
            )
        if wanted.num_top and not self.backend.tells_tops:
            raise not_supported("top_logprobs", "this model tells only the log-probability of the sampled token")
        sampling = Sampling(
            temperature=wanted.temperature,
            top_p=wanted.top_p,
            top_k=wanted.top_k,
            max_tokens=room if asked is None else asked,
            seed=wanted.seed,
        )
        ends = frozenset[int]() if wanted.ignore_eos else self.renderer.stop_ids
        return Ask(tuple(prompt), sampling, ends | wanted.stop_token_ids, wanted.num_samples, wanted.num_top)

    def word(self, token_id: int) -> str:
        """The text of one token."""
        return self.text([token_id])

    def text(self, token_ids: Sequence[int], keeps_special: bool = True) -> str:
        tokenizer = self.renderer.tokenizer
        text: str = tokenizer.decode(
            list(token_ids), skip_special_tokens=not keeps_special, clean_up_tokenization_spaces=False
        )
        return text


class Running:
    """The samples of some prompts while they grow.

    Attributes:
        samples: for each prompt, its samples.
        num_cached: for each prompt, its tokens that had been computed before.
    """

    def __init__(self, served: Served, asks: Sequence[Ask], wanted: Wanted, keeps_special: bool) -> None:
        self.served, self.asks, self.wanted = served, asks, wanted
        self.samples = [
            [
                SampleText(
                    lambda ids: served.text(ids, keeps_special), wanted.stop, ask.stop_ids, follows=wanted.stream
                )
                for _ in range(ask.num_samples)
            ]
            for ask in asks
        ]
        self.num_cached = [0] * len(asks)

    async def changes(self) -> AsyncIterator[tuple[int, int]]:
        """(prompt, sample) whenever one has grown or ended, until all have ended.

        Raises:
            Refused: the backend cannot go on.
        """
        growing = sum(ask.num_samples for ask in self.asks)
        async with self.served.backend.open(self.asks) as told:
            async for batch in told:
                for number, news in batch:
                    if isinstance(news, Begun):
                        self.num_cached[number] = news.num_cached
                        continue
                    sample = self.samples[number][news.sample]
                    if sample.finish is not None:
                        continue
                    sample.add(news)
                    growing -= sample.finish is not None
                    if sample.finish == "stop" and sample.tokens[-1].token_id in self.wanted.stop_token_ids:
                        sample.stop_reason = sample.stop_reason or sample.tokens[-1].token_id
                    yield number, news.sample
                if not growing:
                    return

    async def finished(self) -> None:
        """Wait for all samples."""
        async for _ in self.changes():
            pass

    @property
    def usage(self) -> dict[str, Any]:
        prompt = sum(len(ask.prompt) for ask in self.asks)
        completion = sum(len(sample.tokens) for samples in self.samples for sample in samples)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": sum(self.num_cached)},
        }
