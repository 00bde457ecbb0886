"""The engine's input for scoring and training: prompts with their completions, as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """A prompt and its completions, each with at least one token.

    Raises:
        ValueError: the prompt or a completion is empty.
    """

    prompt: Sequence[int]
    completions: Sequence[Sequence[int]]

    def __post_init__(self) -> None:
        if not self.prompt or not all(self.completions):
            raise ValueError("a prompt and each of its completions need at least one token")

    @property
    def num_scored(self) -> int:
        """Number of completion tokens; each has a log-probability."""
        return sum(map(len, self.completions))
