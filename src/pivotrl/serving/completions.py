"""Text completions: texts or token ids to prompts, samples to texts."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from pivotrl.protocols.live import LiveToken
from pivotrl.serving.fields import COMPLETION, MAX_SAMPLES, MAX_TOP, Fields, Wanted
from pivotrl.serving.logprobs import completion_logprobs
from pivotrl.serving.refusals import Refused, not_supported
from pivotrl.serving.served import Running, Served
from pivotrl.serving.texts import SampleText

_DEFAULT_TOKENS = 16
"""As the API has it."""


@dataclass(frozen=True)
class CompletionRequest:
    """A request that was read, but not yet written for a model."""

    wanted: Wanted
    prompts: tuple[str | list[int], ...]

    @classmethod
    def of(cls, body: Any) -> CompletionRequest:
        """
        Raises:
            Refused: a field is wrong or cannot be followed.
        """
        fields = Fields(body, COMPLETION)
        wanted = fields.wanted(fields.whole("logprobs", 0, MAX_TOP), fields.whole("max_tokens", 1))
        if fields.raw("best_of") not in (None, 1, wanted.num_samples):
            raise not_supported("best_of", "give n for several samples")
        prompts = _prompts(fields.raw("prompt"))
        if len(prompts) * wanted.num_samples > MAX_SAMPLES:
            raise Refused(
                f"{len(prompts)} prompts with n={wanted.num_samples} exceed {MAX_SAMPLES} samples", param="prompt"
            )
        return cls(wanted, tuple(prompts))

    def run(self, served: Served) -> Completing:
        """
        Raises:
            Refused: a prompt is too long, or holds a token that the model does not have.
        """
        asks = [served.ask(_ids(prompt, served), self.wanted, _DEFAULT_TOKENS, "prompt") for prompt in self.prompts]
        return Completing(served, Running(served, asks, self.wanted, self.wanted.keeps_special))


def _prompts(value: Any) -> list[str | list[int]]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(type(item) is int for item in value):
            return [value]
        if all(isinstance(item, str) for item in value):
            return value
        if all(isinstance(item, list) and item and all(type(i) is int for i in item) for item in value):
            return value
    raise Refused("prompt must be a text, token ids, or a list of either", param="prompt")


def _ids(prompt: str | list[int], served: Served) -> list[int]:
    tokenizer = served.renderer.tokenizer
    if isinstance(prompt, str):
        ids: list[int] = tokenizer(prompt).input_ids
        return ids
    if bad := next((token for token in prompt if not 0 <= token < len(tokenizer)), None):
        raise Refused(f"prompt holds token {bad}; this model has tokens 0 to {len(tokenizer) - 1}", param="prompt")
    return prompt


@dataclass
class _Told:
    """How much of a sample was sent."""

    num_characters: int = 0
    num_tokens: int = 0


@dataclass
class Completing:
    """One answer in the making."""

    served: Served
    running: Running
    id: str = field(default_factory=lambda: f"cmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    async def answer(self) -> dict[str, Any]:
        """The whole answer.

        Raises:
            Refused: the backend cannot go on.
        """
        await self.running.finished()
        choices = [
            self._choice(prompt, number, sample, sample.text, sample.tokens)
            for prompt, samples in enumerate(self.running.samples)
            for number, sample in enumerate(samples)
        ]
        return {**self._head(), "choices": choices, "usage": self.running.usage}

    async def stream(self) -> AsyncGenerator[dict[str, Any], None]:
        """The answer in parts.

        Raises:
            Refused: the backend cannot go on.
        """
        told = [[_Told() for _ in samples] for samples in self.running.samples]
        usage = {"usage": None} if self.running.wanted.tells_usage else {}
        async for prompt, number in self.running.changes():
            sample, sent = self.running.samples[prompt][number], told[prompt][number]
            text = sample.settled[sent.num_characters :]
            if not text and sample.finish is None:
                continue
            tokens = sample.tokens[sent.num_tokens :]
            choice = self._choice(prompt, number, sample, text, tokens, sent.num_characters)
            yield {**self._head(), "choices": [choice], **usage}
            sent.num_characters += len(text)
            sent.num_tokens = len(sample.tokens)
        if self.running.wanted.tells_usage:
            yield {**self._head(), "choices": [], "usage": self.running.usage}

    def _head(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.served.name,
            "system_fingerprint": self.served.sha256[:16],
        }

    def _choice(
        self,
        prompt: int,
        number: int,
        sample: SampleText,
        text: str,
        tokens: list[LiveToken],
        offset: int = 0,
    ) -> dict[str, Any]:
        wanted, ask = self.running.wanted, self.running.asks[prompt]
        choice = {
            "index": prompt * ask.num_samples + number,
            "text": text,
            "logprobs": completion_logprobs(tokens, wanted, self.served, offset),
            "finish_reason": sample.finish,
            "stop_reason": sample.stop_reason,
        }
        if wanted.tells_ids:
            choice["token_ids"] = [token.token_id for token in tokens]
            choice["prompt_token_ids"] = list(ask.prompt)
        return choice
