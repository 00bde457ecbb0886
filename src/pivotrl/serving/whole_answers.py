"""A live model over any generator, one request after the other: for models whose states our attention cannot share."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from pivotrl.protocols.live import Ask, LiveToken, News
from pivotrl.protocols.tokens import Drawn, Generator


class WholeAnswers:
    """Each request is drawn to its end before the next begins, and all its tokens are told at once."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._waiting: deque[tuple[str, Ask]] = deque()

    @property
    def is_busy(self) -> bool:
        return bool(self._waiting)

    def fits(self, asks: Sequence[Ask]) -> bool:
        return len(asks) == 1 and not self._waiting

    def admit(self, asks: Mapping[str, Ask]) -> Mapping[str, int]:
        self._waiting.extend(asks.items())
        return dict.fromkeys(asks, 0)

    def step(self) -> Mapping[str, list[News]]:
        key, ask = self._waiting.popleft()
        drawn = self._generator.generate([ask.prompt], [""], ask.num_samples, ask.sampling, ask.stop_ids)
        (group,) = drawn
        return {key: [_news(number, sample, ask) for number, sample in enumerate(group.completions_G)]}

    def cancel(self, key: str) -> None:
        self._waiting = deque(waiting for waiting in self._waiting if waiting[0] != key)


def _news(number: int, drawn: Drawn, ask: Ask) -> News:
    """Log-probabilities of the sampling distribution are the model's own at temperature 1 without limits, and at 0."""
    plain = ask.sampling.temperature == 0.0 or (
        ask.sampling.temperature == 1.0 and ask.sampling.top_p == 1.0 and ask.sampling.top_k is None
    )
    pairs = zip(drawn.token_ids_T, drawn.logprobs_T, strict=True)
    tokens = tuple(LiveToken(token, logprob if plain and logprob == logprob else None) for token, logprob in pairs)
    return News(number, tokens, "stop" if drawn.stopped else "length")
