"""The cost of reaching a score, and the ratio of two arms' costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pivotrl.comparison.points import BASE, Costs
from pivotrl.comparison.table import Config, Split, Table

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

COSTS: dict[str, Callable[[Costs], float | None]] = {
    "rollout turns": lambda costs: costs.rollout_turns,
    "prefilled tokens": lambda costs: costs.prefilled_tokens,
    "decoded tokens": lambda costs: costs.decoded_tokens,
    "trained tokens": lambda costs: costs.trained_tokens,
    "seconds": lambda costs: costs.seconds,
}


@dataclass(frozen=True)
class Reached:
    """The cost at which an arm's mean test score crosses a level, at the rate that validation chose."""

    rate: float
    cost: float
    """Infinite if the score was never reached."""
    low: float
    high: float


@dataclass(frozen=True)
class Ratio:
    """How many times more the second arm paid than the first to reach a score, with a 95 % interval."""

    level: float
    first: Reached
    second: Reached
    ratio: float
    low: float
    high: float


def crossing(cost_C: Array, score_C: Array, level: float) -> float:
    """The cost at which the score first is at least ``level``, by straight lines between checkpoints; infinite if
    never."""
    for place, score in enumerate(score_C):
        if score >= level:
            if place == 0:
                return float(cost_C[0])
            before = score_C[place - 1]
            share = (level - before) / (score - before)
            return float(cost_C[place - 1] + share * (cost_C[place] - cost_C[place - 1]))
    return math.inf


class _Curve:
    """Costs [steps, seeds] and scores [steps, seeds, clusters] of an arm at one rate, from before the first update on:
    the policy before training, at the cost of the profile."""

    def __init__(self, table: Table, arm: str, rate: float, measure: str, cost: str, seeds: list[int], split: Split):
        steps = [config for config in table.configs(arm) if config.rate == rate]
        paid = [[COSTS[cost](one) for one in table.costs(config, seeds)] for config in steps]
        known = [[math.nan if value is None else value for value in row] for row in paid]
        if steps[0].step > 0:  # nothing was paid for before the first update
            steps, known = [Config(BASE, 0.0, 0), *steps], [[0.0] * len(seeds), *known]
        self.score_CST = np.stack([table.values(config, measure, seeds, split) for config in steps])
        self.cost_CS = np.array(known, dtype=np.float64)

    def crossing(self, level: float, seed_S: Places, cluster_T: Places) -> float:
        score_C = self.score_CST[:, seed_S][:, :, cluster_T].mean(axis=(1, 2))
        return crossing(self.cost_CS[:, seed_S].mean(axis=1), score_C, level)


def fastest_rate(table: Table, arm: str, measure: str, level: float, cost: str, seeds: list[int]) -> float | None:
    """The rate at which the mean validation score reaches the level at the least cost; None if none does."""
    found: dict[float, float] = {}
    for rate in sorted({config.rate for config in table.configs(arm)}):
        curve = _Curve(table, arm, rate, measure, cost, seeds, "validation")
        found[rate] = curve.crossing(level, np.arange(len(seeds)), np.arange(curve.score_CST.shape[2]))
    best = min(found, key=lambda rate: found[rate])
    return best if math.isfinite(found[best]) else None


def matched_level(table: Table, first: str, second: str, measure: str) -> float:
    """The level at which two arms are compared: 95 % of the way from the policy before training to what the weaker of
    the two reaches on validation at its best."""
    seeds = table.seeds(first, second)
    start = float(table.values(None, measure, seeds, "validation").mean())
    best = [
        max(float(table.values(c, measure, seeds, "validation").mean()) for c in table.configs(arm))
        for arm in (first, second)
    ]
    return start + 0.95 * (min(best) - start)


def ratio(
    table: Table, first: str, second: str, measure: str, level: float, cost: str, num_resamples: int = 2000
) -> Ratio | None:
    """Cost of ``second`` over cost of ``first`` at a level, with a bootstrap over seeds and test clusters.

    A resample in which the second arm does not reach the level counts as an infinite ratio, so an interval may be open
    above. None if on validation one of the arms reaches the level at no rate.
    """
    seeds = table.seeds(first, second)
    rates = [fastest_rate(table, arm, measure, level, cost, seeds) for arm in (first, second)]
    if None in rates or not seeds:
        return None
    curves = [
        _Curve(table, arm, rate, measure, cost, seeds, "test")
        for arm, rate in zip((first, second), rates, strict=True)
        if rate is not None
    ]
    clusters = curves[0].score_CST.shape[2]
    generator, drawn = np.random.default_rng(0), []
    for _ in range(num_resamples):
        seed_S = generator.integers(0, len(seeds), (len(seeds),), dtype=np.int64)
        cluster_T = generator.integers(0, clusters, (clusters,), dtype=np.int64)
        drawn.append([curve.crossing(level, seed_S, cluster_T) for curve in curves])
    whole = np.arange(len(seeds)), np.arange(clusters)
    exact = [curve.crossing(level, *whole) for curve in curves]
    cost_RA = np.array(drawn)
    reached = [
        Reached(rate, value, *_interval(cost_RA[:, place]))
        for place, (rate, value) in enumerate(zip(rates, exact, strict=True))
        if rate is not None
    ]
    return Ratio(level, reached[0], reached[1], _over(exact[1], exact[0]), *_interval(_ratios(cost_RA)))


def _ratios(cost_RA: Array) -> Array:
    return np.array([_over(second, first) for first, second in cost_RA])


def _over(second: float, first: float) -> float:
    """A level that neither reaches, or that both have from the start, says nothing: 1. One that the first alone misses
    counts as 0."""
    if math.isinf(second):
        return 1.0 if math.isinf(first) else math.inf
    if first == 0:
        return 1.0 if second == 0 else math.inf
    return 0.0 if math.isinf(first) else second / first


def _interval(values: Sequence[float] | Array) -> tuple[float, float]:
    """Percentiles 2.5 and 97.5 without interpolation, which infinite values would spoil."""
    ordered = sorted(float(value) for value in values)
    return ordered[int(0.025 * len(ordered))], ordered[min(len(ordered) - 1, int(0.975 * len(ordered)))]
