"""A sampler: it acts by a rule, here by bisection. It has no weights, so it cannot be trained."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from pivotrl import Action, Turn
from pivotrl.records import Completion, SampleGroup, Sampling


class Sampler:
    """Guesses the number of the ``guessing`` environment; says ``otherwise`` wherever nothing is to be guessed."""

    def __init__(self, *, otherwise: str = "pass") -> None:
        self._otherwise = otherwise

    @property
    def identity(self) -> dict[str, Any]:
        return {"sampler": "bisecting", "otherwise": self._otherwise}

    def fits(self, turn: Turn, max_tokens: int) -> bool:
        return True

    def sample(
        self, turns: Sequence[Turn], num_samples: int, sampling: Sampling, first: int = 0
    ) -> Iterator[SampleGroup]:
        for turn in turns:
            text = self._guess(turn)
            ids = tuple(text.encode())  # it has no tokens of its own
            answer = Completion(
                action=Action(content=text),
                text=text,
                token_ids_T=ids,
                logprobs_T=(0.0,) * len(ids),
                finish_reason="stop",
            )
            yield SampleGroup(turn_id=turn.id, completions_G=(answer,) * num_samples, first=first)

    def _guess(self, turn: Turn) -> str:
        bounds = re.search(r"from (\d+) to (\d+)", turn.context[0].content or "")
        if bounds is None:
            return self._otherwise
        low, high = int(bounds[1]), int(bounds[2])
        for hint in (message.content for message in turn.context[2::2]):
            middle = (low + high) // 2
            low, high = (middle + 1, high) if hint == "Higher." else (low, middle - 1)
        return str((low + high) // 2)
