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
    seeds."""

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
    """R2 over the configs of all tables at the seeds that all their arms have; None for fewer than three configs, no
    common seed, or a measure that is missing.

    Args:
        as_change: take changes from the base, which is right where bases differ.
    """
    rows: list[tuple[Array, Array]] = []
    trained = [(table, arm) for table in tables for arm in table.arms if table.seeds(arm)]
    common = sorted(set.intersection(*(set(table.seeds(arm)) for table, arm in trained))) if trained else []
    for table in tables:
        if not {first, second} <= set(table.measures()):
            return None
        for arm in table.arms:
            for config in table.configs(arm) if common and table.seeds(arm) else ():
                if config.step == 0:  # the base again
                    continue
                take = table.gain if as_change else table.values
                pair = [take(config, measure, common, "test").mean(axis=1) for measure in (first, second)]
                rows.append((pair[0], pair[1]))
    if len(rows) < 3:
        return None
    num_seeds = len(common)
    first_NS, second_NS = (np.stack([row[place] for row in rows]) for place in (0, 1))
    exact = r2(first_NS.mean(axis=1), second_NS.mean(axis=1))
    generator, drawn = np.random.default_rng(0), []
    for _ in range(num_resamples):
        seed_S = generator.integers(0, num_seeds, (num_seeds,))
        drawn.append(r2(first_NS[:, seed_S].mean(axis=1), second_NS[:, seed_S].mean(axis=1)))
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Prediction(first, second, exact, min(float(low), exact), max(float(high), exact), len(rows), num_seeds)
