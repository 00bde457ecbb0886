"""What a server asks of a model while it runs: requests come and go, and their tokens are told one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pivotrl.records import Sampling

Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class Ask:
    """A prompt, and how its samples are drawn.

    ``sampling.seed`` and the number of a sample determine its random numbers, so a sample does not depend on the other
    requests of the moment.
    """

    prompt: tuple[int, ...]
    """Token ids, at least one."""
    sampling: Sampling
    stop_ids: frozenset[int]
    """Tokens that end a sample; the one that did is its last."""
    num_samples: int = 1
    num_top: int | None = None
    """How many of the most likely tokens are told at each place; None: not even the log-probability of the sampled."""


@dataclass(frozen=True)
class LiveToken:
    """A sampled token. Log-probabilities are the model's own, in nats: before temperature, top-k and top-p."""

    token_id: int
    logprob: float | None = None
    """None if it was not asked for, or is not known."""
    top: tuple[tuple[int, float], ...] = ()
    """(token id, log-probability) of the most likely ones, the likeliest first."""


@dataclass(frozen=True)
class News:
    """What has become of one sample of a request."""

    sample: int
    tokens: tuple[LiveToken, ...] = ()
    finish: Finish | None = None
    """Why it ended; None while it grows."""
    fault: str | None = None
    """Why the whole request cannot be answered."""


class LiveModel(Protocol):
    """Draws for many requests side by side. It is used by one thread."""

    @property
    def is_busy(self) -> bool:
        """Whether any sample grows."""
        ...

    def fits(self, asks: Sequence[Ask]) -> bool:
        """Whether there is room for them now. One alone always fits where nothing grows."""
        ...

    def admit(self, asks: Mapping[str, Ask]) -> Mapping[str, int]:
        """Begin requests; key -> prompt tokens that had been computed for an earlier one.

        Raises:
            MemoryError: there is no memory for them.
        """
        ...

    def step(self) -> Mapping[str, list[News]]:
        """Draw on; key -> its news."""
        ...

    def cancel(self, key: str) -> None:
        """Nobody waits for this request any more. An unknown key is no fault."""
        ...
