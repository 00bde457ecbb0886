"""What requests cost in money, by the tokens that the server counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pivotrl.options import refuse

_MILLION = 1_000_000


@dataclass(frozen=True)
class Usage:
    """Tokens of one request as the server counted them; None where it did not."""

    prompt: int | None = None
    completion: int | None = None
    cached: int = 0
    """Of the prompt, tokens that the server had computed before."""

    @property
    def total(self) -> int:
        return (self.prompt or 0) + (self.completion or 0)


@dataclass(frozen=True)
class Prices:
    """Prices of a million tokens, in any currency.

    Raises:
        InputError: one of the two is missing.
    """

    input_price: float | None = None
    output_price: float | None = None
    cached_price: float | None = None
    """None: as other tokens of a prompt."""

    def __post_init__(self) -> None:
        if (self.input_price is None) != (self.output_price is None):
            missing = "output_price" if self.output_price is None else "input_price"
            refuse(missing, "", "is missing: money needs the prices of prompts and of samples")
        if self.cached_price is not None and self.input_price is None:
            refuse("cached_price", self.cached_price, "has an effect only with input_price and output_price")

    def cost(self, usage: Usage) -> float | None:
        """None where there are no prices, or the server did not count."""
        if self.input_price is None or self.output_price is None or usage.prompt is None or usage.completion is None:
            return None
        cached_price = self.input_price if self.cached_price is None else self.cached_price
        new = usage.prompt - usage.cached
        paid = new * self.input_price + usage.cached * cached_price + usage.completion * self.output_price
        return paid / _MILLION


def read_usage(told: Any) -> Usage:
    """The ``usage`` of an answer, in the shapes that are known. What is not a plausible count is unknown."""
    if not isinstance(told, Mapping):
        return Usage()
    prompt = _count(told.get("prompt_tokens"))
    details = told.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, Mapping) else None
    if cached is None:
        cached = _count(told.get("prompt_cache_hit_tokens"))  # DeepSeek
    return Usage(prompt, _count(told.get("completion_tokens")), min(cached or 0, prompt or 0))


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None
