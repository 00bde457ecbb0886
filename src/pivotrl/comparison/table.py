"""Points as arrays: mean of a measure for each seed and cluster, on validation or test clusters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pivotrl.comparison.points import BASE, Costs, Point
from pivotrl.options import InputError
from pivotrl.seeding import derive_seed

Array = npt.NDArray[np.float64]
Split = Literal["validation", "test"]


def split_of(cluster: str) -> Split:
    """Half of the clusters choose rates and checkpoints, the other half give the numbers. The name alone decides, so
    the split is the same for every arm, seed and measure."""
    return "validation" if derive_seed(0, "split", cluster) % 2 else "test"


@dataclass(frozen=True, order=True)
class Config:
    """A checkpoint of an arm at a rate, which every seed has."""

    arm: str
    rate: float
    step: int


class Table:
    """The points of one cell, from a finished grid or from one that was interrupted.

    Only seeds that every config of an arm has count, so that the mean over seeds means the same everywhere. An arm of
    which no update was measured has no seed.

    Raises:
        InputError: no point, or no seed whose base was measured.
    """

    def __init__(self, points: Iterable[Point]) -> None:
        self._points = {(point.arm, point.rate, point.step, point.seed): point for point in points}
        self.base_seeds = sorted(seed for arm, _, _, seed in self._points if arm == BASE)
        if not self.base_seeds:
            raise InputError("there is no point of the policy before training; run the comparison again to measure it")
        self.arms = list(dict.fromkeys(arm for arm, _, _, _ in self._points if arm != BASE))

    def configs(self, arm: str) -> list[Config]:
        """Rates and checkpoints that some seed of the arm has."""
        return sorted({Config(arm, rate, step) for name, rate, step, _ in self._points if name == arm})

    def seeds(self, *arms: str) -> list[int]:
        """Seeds that all configs of all these arms and the base have."""
        configs = {arm: self.configs(arm) for arm in arms if arm != BASE}
        has_begun = all(any(config.step > 0 for config in its) for its in configs.values())
        found = set(self.base_seeds) if has_begun else set()
        for config in (config for its in configs.values() for config in its):
            found &= {s for s in self.base_seeds if (config.arm, config.rate, config.step, s) in self._points}
        return sorted(found)

    def point(self, config: Config, seed: int) -> Point:
        return self._points[config.arm, config.rate, config.step, seed]

    def costs(self, config: Config, seeds: list[int]) -> list[Costs]:
        return [self.point(config, seed).costs for seed in seeds]

    def clusters(self, measure: str, split: Split) -> list[str]:
        """Clusters that every point has a value for."""
        shared: set[str] | None = None
        for point in self._points.values():
            found = set(point.values.get(measure, ()))
            shared = found if shared is None else shared & found
        return sorted(cluster for cluster in shared or () if split_of(cluster) == split)

    def measures(self) -> list[str]:
        """Measures that every point has."""
        first = next(iter(self._points.values()))
        return [name for name in first.values if all(name in point.values for point in self._points.values())]

    def values(self, config: Config | None, measure: str, seeds: list[int], split: Split) -> Array:
        """[seeds, clusters]; None: the base."""
        clusters = self.clusters(measure, split)
        chosen = config or Config(BASE, 0.0, 0)
        rows = [[self.point(chosen, seed).values[measure][c] for c in clusters] for seed in seeds]
        return np.array(rows, dtype=np.float64).reshape(len(seeds), len(clusters))

    def gain(self, config: Config, measure: str, seeds: list[int], split: Split) -> Array:
        """[seeds, clusters]: change from the base of the same seed."""
        return self.values(config, measure, seeds, split) - self.values(None, measure, seeds, split)
