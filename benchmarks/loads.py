"""Synthetic loads: N pivots on one random trunk of P tokens, G branches of about R tokens behind each.

Prompts are equally spaced nested prefixes of the trunk, so every count below is exact. W0 to W5 range from one long
pivot to a dense trajectory; S and M are small enough for a quick look on two CPU cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from pivotrl.engine.items import Item

Lengths = Sequence[tuple[int, Sequence[int]]]
"""(prompt tokens, tokens of each completion) of every pivot."""


@dataclass(frozen=True)
class Load:
    name: str
    trunk: int
    """P, tokens."""
    pivots: int
    """N."""
    branches: int
    """G, per pivot."""
    tokens: int
    """R, per branch; the mean when lengths vary."""
    spread: float = 0.0
    """Standard deviation of log R; 0 keeps every branch at R."""

    def __str__(self) -> str:
        spread = f" spread {self.spread}" if self.spread else ""
        return f"{self.name} ({self.trunk},{self.pivots},{self.branches},{self.tokens}){spread}"


LOADS = {
    load.name: load
    for load in (
        Load("W0", 16384, 1, 16, 300),
        Load("W1", 8192, 8, 8, 150),
        Load("W2", 16384, 4, 16, 300),
        Load("W3", 30720, 6, 16, 400),
        Load("W4", 30720, 16, 16, 400),
        Load("W5", 2048, 4, 8, 50),
        Load("S", 512, 4, 8, 32),
        Load("M", 1024, 4, 8, 50),
        Load("T", 48, 3, 2, 6),  # for trying a script out
    )
}


def parse_load(text: str, spread: float = 0.0) -> Load:
    """``W5``, or ``P,N,G,R``.

    Raises:
        ValueError: neither a known name nor four whole numbers with P >= N.
    """
    if text in LOADS:
        return replace(LOADS[text], spread=spread)
    numbers = text.split(",")
    if len(numbers) != 4 or not all(number.isdigit() and int(number) for number in numbers):
        raise ValueError(f"load {text!r}: give one of {', '.join(LOADS)}, or P,N,G,R such as 2048,4,8,50")
    trunk, pivots, branches, tokens = map(int, numbers)
    if trunk < pivots:
        raise ValueError(f"load {text!r}: {pivots} pivots do not fit on a trunk of {trunk} tokens")
    return Load("own", trunk, pivots, branches, tokens, spread)


def lengths(load: Load, seed: int = 0) -> list[tuple[int, list[int]]]:
    """Prompt and completion lengths; log-normal with mean R, between 1 and 4 R, when the load has a spread."""
    generator = np.random.default_rng(seed)
    centre = -(load.spread**2) / 2  # makes the mean of the log-normal factor 1

    def one() -> int:
        if not load.spread:
            return load.tokens
        return min(max(round(load.tokens * generator.lognormal(centre, load.spread)), 1), 4 * load.tokens)

    prompts = [load.trunk * (i + 1) // load.pivots for i in range(load.pivots)]
    return [(prompt, [one() for _ in range(load.branches)]) for prompt in prompts]


def make_items(load: Load, vocabulary: int, seed: int = 0, first_id: int = 3) -> list[Item]:
    """Random token ids in [first_id, vocabulary); ids below are control tokens."""
    generator = np.random.default_rng(seed + 1)

    def tokens(count: int) -> list[int]:
        drawn: list[int] = generator.integers(first_id, vocabulary, count).tolist()
        return drawn

    trunk = tokens(load.trunk)
    return [Item(trunk[:prompt], [tokens(r) for r in completions]) for prompt, completions in lengths(load, seed)]


def make_advantages(items: Sequence[Item], seed: int = 0) -> list[list[float]]:
    """One per completion, standard normal: both signs, none zero, so no branch may be dropped."""
    generator = np.random.default_rng(seed + 2)
    return [generator.standard_normal(len(item.completions)).tolist() for item in items]


@dataclass(frozen=True)
class TokenCounts:
    logical: int
    """Every branch with its whole prompt."""
    grouped: int
    """Every prompt once, for all its branches."""
    unique: int
    """The trunk once, for all pivots."""

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def count_tokens(sizes: Lengths) -> TokenCounts:
    """Of nested prompts: the longest one contains the others."""
    own = sum(sum(completions) for _, completions in sizes)
    return TokenCounts(
        logical=own + sum(prompt * len(completions) for prompt, completions in sizes),
        grouped=own + sum(prompt for prompt, _ in sizes),
        unique=own + max(prompt for prompt, _ in sizes),
    )
