"""The sampler of this package, in the form of a decode peer: one trunk prefill for all prompts.

``pivotrl`` chooses its matrix products as the policy does; the others fix them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

from models import twin
from peers.generate import Draw
from pivotrl.engine import sampling as engine
from pivotrl.engine.products import Products, computing_by, resolve_products
from pivotrl.engine.split_attention import NAME
from pivotrl.records import Sampling


def prepare(model: Any, tokenizer: Any, products: Products = "auto") -> Draw:
    model = twin(model, NAME)
    chosen, calls = resolve_products(products, model), count()

    def draw(prompts: Sequence[Sequence[int]], num_samples: int, num_tokens: int) -> list[list[list[int]]]:
        settings = Sampling(max_tokens=num_tokens, seed=next(calls))
        turns = [f"bench#{i}" for i in range(len(prompts))]
        rows = len(prompts) * num_samples
        with computing_by(chosen, model):
            drawn = engine.draw(model, prompts, turns, num_samples, settings, frozenset(), max_rows=rows)
        return [[list(sample.token_ids_T) for sample in group] for group in drawn]

    return draw
