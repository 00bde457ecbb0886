"""Totals over all candidate turns from the turns of a pilot, with 95 % intervals clustered by task."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pivotrl.intervals import clustered_mean
from pivotrl.report.planning.pilot import OUTCOMES, Outcome, PilotTurn

_RESAMPLES = 2_000


@dataclass(frozen=True)
class Range:
    """An estimate and its 95 % interval."""

    mean: float
    low: float
    high: float

    def times(self, factor: float) -> Range:
        """All three times a factor that is not negative."""
        return Range(self.mean * factor, self.low * factor, self.high * factor)

    def plus(self, other: Range) -> Range:
        """The sum; its interval is that of two numbers that err in the same direction, so it is never too narrow."""
        return Range(self.mean + other.mean, self.low + other.low, self.high + other.high)

    @classmethod
    def exactly(cls, value: float) -> Range:
        return cls(value, value, value)


@dataclass(frozen=True)
class Candidates:
    """All turns that a profile would sample."""

    number: int
    prompt_size: int
    """Characters of all prompts, each counted once."""
    shared_size: int
    """Characters of what their prompts do not share (:func:`pivotrl.report.planning.prompts.shared_size`)."""
    training_size: float
    """The same for a training batch, for each of its turns."""


@dataclass(frozen=True)
class Projection:
    """What a profile of K samples at all candidate turns would find and need."""

    num_candidates: int
    num_turns: int
    """Turns of the pilot."""
    num_tasks: int
    num_samples: int
    """K."""
    shares: dict[Outcome, Range]
    pivots: Range
    """Number of pivots by the paper's rule."""
    rollout_turns: Range
    """Sampled actions, those of a verifier that plays on included."""
    prompt_tokens: Range | None
    """Tokens of all prompts, each counted once. None: unknown."""
    computed_tokens: Range | None
    """Prompt tokens to compute when prompts of a batch share their beginnings."""
    sampled_tokens: Range | None
    """Those of requests of no use included."""
    tokens_per_sample: Range | None
    training_prompt: Range | None
    """Prompt tokens computed for each turn of a training batch."""

    @property
    def unshared_tokens(self) -> Range | None:
        """Prompt tokens if every sample computed its own prompt."""
        return self.prompt_tokens and self.prompt_tokens.times(self.num_samples)


def project(rows: Sequence[PilotTurn], candidates: Candidates, num_samples: int) -> Projection:
    """Totals from the pilot's means.

    The later profile draws the same samples at the turns of the pilot, so only the other turns are uncertain: an
    interval narrows with the share of turns sampled, and has no width once all are.

    Args:
        rows: at least one; drawn so that every candidate turn had the same chance.
        num_samples: K of the profile; that of the pilot, unless its samples came from elsewhere.
    """
    scale = _Scale(rows, candidates.number)
    sampled = [row for row in rows if row.num_samples]
    given = sum(row.num_samples for row in sampled) / len(sampled) if sampled else 0.0
    more = num_samples / given if given else 0.0  # 1, unless some turns have fewer samples
    knows_samples = bool(sampled) and all(row.sampled_tokens is not None for row in sampled)
    knows_prompts = bool(sampled) and all(row.prompt_tokens for row in sampled)
    prompts = scale.by_size(candidates.prompt_size) if knows_prompts else None
    tokens = scale.total(lambda row: float(row.sampled_tokens or 0)) if knows_samples else None
    size = max(1, candidates.prompt_size)
    return Projection(
        num_candidates=candidates.number,
        num_turns=len(rows),
        num_tasks=len({row.task for row in rows}),
        num_samples=num_samples,
        shares={
            outcome: scale.share(lambda row, outcome=outcome: row.outcome == outcome)  # type: ignore[misc]
            for outcome in OUTCOMES
        },
        pivots=scale.share(lambda row: row.is_pivot).times(candidates.number),
        rollout_turns=scale.total(lambda row: float(row.num_rollout_turns)).times(more),
        prompt_tokens=prompts,
        computed_tokens=prompts and prompts.times(candidates.shared_size / size),
        sampled_tokens=tokens
        and scale.total(lambda row: float((row.sampled_tokens or 0) + row.lost_tokens)).times(more),
        tokens_per_sample=tokens and tokens.times(len(rows) / candidates.number / max(1.0, given * len(sampled))),
        training_prompt=prompts and prompts.times(candidates.training_size / size),
    )


class _Scale:
    """From the turns of a pilot to all candidate turns."""

    def __init__(self, rows: Sequence[PilotTurn], number: int) -> None:
        self._rows, self._number = rows, number
        self._tasks = [row.task for row in rows]
        self._narrowing = math.sqrt(max(0.0, 1 - len(rows) / number))
        """Of an interval: the finite-population correction (Cochran 1977, 2.6)."""

    def share(self, is_one: Callable[[PilotTurn], bool]) -> Range:
        return self._narrowed(*self._mean([float(is_one(row)) for row in self._rows], bounded=True))

    def total(self, value: Callable[[PilotTurn], float]) -> Range:
        values = [value(row) for row in self._rows]
        mean, low, high = self._mean(values, bounded=False)
        found = self._narrowed(mean, low, high)
        # The turns of the pilot are known; the others cost nothing at least.
        low = max(found.low * self._number, sum(values))
        return Range(max(found.mean * self._number, low), low, max(found.high * self._number, low))

    def by_size(self, size: int) -> Range:
        """Prompt tokens of all turns, from their characters (a ratio estimator, Cochran 1977, 6.3)."""
        rate = sum(row.prompt_tokens for row in self._rows) / max(1, sum(row.prompt_size for row in self._rows))
        off = [row.prompt_tokens - rate * row.prompt_size for row in self._rows]
        _, low, high = self._mean(off, bounded=False)
        spread = self._narrowed(0.0, min(low, 0.0), max(high, 0.0)).times(self._number)
        return Range(rate * size, max(0.0, rate * size + spread.low), rate * size + spread.high)

    def _mean(self, values: Sequence[float], bounded: bool) -> tuple[float, float, float]:
        if not bounded and len(set(self._tasks)) < 2:  # one task tells nothing of others
            mean = sum(values) / len(values)
            return mean, 0.0 if mean >= 0 else -math.inf, math.inf
        found = clustered_mean(values, self._tasks, bounded=bounded, num_resamples=_RESAMPLES)
        return found.mean, found.low, found.high

    def _narrowed(self, mean: float, low: float, high: float) -> Range:
        if self._narrowing == 0.0:
            return Range.exactly(mean)
        return Range(mean, mean - (mean - low) * self._narrowing, mean + (high - mean) * self._narrowing)
