"""How well one measure predicts another over all checkpoints of all arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pivotrl.comparison.table import Table

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """R2 of the straight line from one measure to another, over the means of configs, with a 95 % interval for new
    seeds (NaN with one seed)."""

    first: str
    second: str
    r2: float
    low: float
    high: float
    num_configs: int
    num_seeds: int


def r2(first_N: Array, second_N: Array) -> float:
    """Squared correlation; NaN if one of the two never differs."""
    a_N, b_N = first_N - first_N.mean(), second_N - second_N.mean()
    spread = float(a_N @ a_N) * float(b_N @ b_N)
    return float(a_N @ b_N) ** 2 / spread if spread > 0 else float("nan")


def predicts(
    tables: Sequence[Table], first: str, second: str, as_change: bool = False, num_resamples: int = 1000
) -> Prediction | None:
    """R2 over the configs of all tables that have both measures, each at the mean of its arm's seeds; None for fewer
    than three.

    The interval is a bootstrap over seeds. A config none of whose seeds was drawn is left out of that resample.

    Args:
        as_change: take changes from the base, which is right where bases differ.
    """
    rows: list[tuple[Array, Array, list[int]]] = []
    for table in tables:
        if not {first, second} <= set(table.measures()):
            continue
        for arm in table.arms:
            seeds = table.seeds(arm)
            for config in table.configs(arm) if seeds else ():
                if config.step == 0:  # the base again
                    continue
                take = table.gain if as_change else table.values
                pair = [take(config, measure, seeds, "test").mean(axis=1) for measure in (first, second)]
                rows.append((pair[0], pair[1], seeds))
    if len(rows) < 3:
        return None
    every = sorted({seed for _, _, seeds in rows for seed in seeds})
    first_NS, second_NS = np.zeros((2, len(rows), len(every)))
    has_NS = np.zeros((len(rows), len(every)))
    for number, (a_S, b_S, seeds) in enumerate(rows):
        places = [every.index(seed) for seed in seeds]
        first_NS[number, places], second_NS[number, places], has_NS[number, places] = a_S, b_S, 1.0

    def over(times_S: Array) -> float:
        weight_N = has_NS @ times_S
        kept_N = weight_N > 0
        return r2(*((values_NS @ times_S)[kept_N] / weight_N[kept_N] for values_NS in (first_NS, second_NS)))

    exact = over(np.ones(len(every)))
    if len(every) == 1:
        return Prediction(first, second, exact, float("nan"), float("nan"), len(rows), 1)
    generator, even = np.random.default_rng(0), np.full(len(every), 1 / len(every))
    drawn = [over(generator.multinomial(len(every), even).astype(np.float64)) for _ in range(num_resamples)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Prediction(first, second, exact, min(float(low), exact), max(float(high), exact), len(rows), len(every))
