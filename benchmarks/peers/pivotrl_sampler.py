"""The sampler of this package, in the form of a decode peer: one trunk prefill for all prompts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

from models import twin
from peers.generate import Draw
from pivotrl.engine import sampling as engine
from pivotrl.engine.split_attention import NAME
from pivotrl.records import Sampling


def prepare(model: Any, tokenizer: Any) -> Draw:
    model = twin(model, NAME)
    calls = count()

    def draw(prompts: Sequence[Sequence[int]], num_samples: int, num_tokens: int) -> list[list[list[int]]]:
        settings = Sampling(max_tokens=num_tokens, seed=next(calls))
        turns = [f"bench#{i}" for i in range(len(prompts))]
        rows = len(prompts) * num_samples
        drawn = engine.draw(model, prompts, turns, num_samples, settings, frozenset(), max_rows=rows)
        return [[list(sample.token_ids_T) for sample in group] for group in drawn]

    return draw
