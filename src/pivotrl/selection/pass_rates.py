"""What a few samples say about the pass rate p of a turn: its posterior, and what follows from it.

The prior is fitted to all turns of a profile (nonparametric empirical Bayes: Robbins 1956, Kiefer and Wolfowitz 1956).
Profiles need it: many turns always pass or always fail, so their pass rates lie in two spikes that no Beta
distribution has. A Beta-binomial posterior is what remains where the prior is a Beta distribution.

Pass rates lie on a grid of P points. Rewards between 0 and 1 count as shares of a pass. Suffixes: _N turns, _P points.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_NUM_POINTS = 129
GRID_P: Array = np.sin(np.linspace(0.0, np.pi / 2, _NUM_POINTS)) ** 2
"""Pass rates from 0 to 1, equally far apart in arcsin(sqrt(p)): close together where samples can tell them apart."""
GRID_P[-1] = 1.0
_EPSILON = 1e-6
_ROUNDS = 500
_ENOUGH = 1e-7
_PRIOR_TURNS = 2.0
"""The prior before any turn is Jeffreys' Beta(1/2, 1/2), which is even on the grid; it counts as this many turns."""


@dataclass(frozen=True)
class Evidence:
    """What is known about one turn."""

    passes: float
    """Sum of the rewards of the samples."""
    samples: int
    """Samples with a verdict."""
    at_least: float = 0.0
    """A pass rate that the turn certainly has: the probability of a demonstrated action that the verifier accepts."""

    def __post_init__(self) -> None:
        assert 0 <= self.passes <= self.samples
        assert 0 <= self.at_least <= 1


class PassRates:
    """A distribution of pass rates over turns, and the posterior of a single turn under it."""

    def __init__(self, prior_P: Array) -> None:
        self.prior_P = prior_P

    @classmethod
    def fit(cls, evidence_N: Sequence[Evidence]) -> PassRates:
        """The prior that makes the evidence likeliest, by expectation maximisation; Jeffreys' without evidence."""
        counts = Counter(evidence_N)
        base_P = np.full(_NUM_POINTS, 1.0 / _NUM_POINTS)
        prior_P = base_P
        if not counts:
            return cls(prior_P)
        weights_N = np.array(list(counts.values()), dtype=np.float64)
        likelihoods_NP = np.stack([_likelihood(evidence) for evidence in counts])
        total = weights_N.sum() + _PRIOR_TURNS
        for _ in range(_ROUNDS):
            chances_N = likelihoods_NP @ prior_P
            shares_P = prior_P * ((weights_N / chances_N) @ likelihoods_NP)
            better_P = (shares_P + _PRIOR_TURNS * base_P) / total
            moved = float(np.abs(better_P - prior_P).sum())
            prior_P = better_P
            if moved < _ENOUGH:
                break
        return cls(prior_P)

    def posterior(self, evidence: Evidence) -> Array:
        """Probability of each pass rate of :data:`GRID_P`, given what is known about the turn."""
        weights_P: Array = self.prior_P * _likelihood(evidence)
        weights_P /= weights_P.sum()
        return weights_P


def _likelihood(evidence: Evidence) -> Array:
    """Of the evidence at each pass rate, relative to the largest."""
    with np.errstate(divide="ignore", invalid="ignore"):
        failures = evidence.samples - evidence.passes
        log_P = np.where(evidence.passes > 0, evidence.passes * np.log(GRID_P), 0.0)
        log_P = log_P + np.where(failures > 0, failures * np.log1p(-GRID_P), 0.0)
    nearest_below = int(np.searchsorted(GRID_P, evidence.at_least, side="right")) - 1
    log_P[:nearest_below] = -np.inf
    top = log_P.max()
    if not np.isfinite(top):  # such as a failure where the demonstrated action has probability 1: the samples decide
        return _likelihood(Evidence(evidence.passes, evidence.samples))
    likelihood_P: Array = np.exp(log_P - top)
    return likelihood_P


def mean(posterior_P: Array) -> float:
    """Expected pass rate."""
    return float(posterior_P @ GRID_P)


def interval(posterior_P: Array, level: float = 0.95) -> tuple[float, float]:
    """The pass rates between which the turn's lies with this probability, equal tails."""
    below_P = np.cumsum(posterior_P)
    tail = (1 - level) / 2
    low = int(np.searchsorted(below_P, tail, side="right"))
    high = int(np.searchsorted(below_P, 1 - tail, side="left"))
    return float(GRID_P[min(low, _NUM_POINTS - 1)]), float(GRID_P[min(high, _NUM_POINTS - 1)])


def chance_mixed(posterior_P: Array, group_size: int) -> float:
    """Probability that a new group of G samples has both a pass and a failure, so that it teaches."""
    return float(posterior_P @ (1 - GRID_P**group_size - (1 - GRID_P) ** group_size))


def chance_all_pass(posterior_P: Array, group_size: int) -> float:
    """Probability that all of a new group of G samples pass."""
    return float(posterior_P @ GRID_P**group_size)


def deviation(posterior_P: Array) -> float:
    """Expected standard deviation of the reward, to which the signal of a turn is proportional (Theorem 3.2)."""
    return float(posterior_P @ np.sqrt(GRID_P * (1 - GRID_P)))


def chance_of_pivot(evidence: Evidence, posterior_P: Array, num_samples: int, max_mean: float) -> float:
    """Probability that the turn is a pivot by the paper's rule (eq. 5) once it has ``num_samples`` samples: at least
    one pass, at least one failure, and a mean below ``max_mean``."""
    left = num_samples - evidence.samples
    assert left >= 0
    passes_S = evidence.passes + np.arange(left + 1)
    is_pivot_S = (passes_S > _EPSILON) & (passes_S < num_samples - _EPSILON) & (passes_S / num_samples < max_mean)
    chances_PS = _binomial(left)
    return float(posterior_P @ chances_PS @ is_pivot_S)


@functools.cache
def _binomial(count: int) -> Array:
    """Probability of each number of passes among ``count`` samples (columns) at each pass rate (rows)."""
    numbers_S = np.arange(count + 1)
    ways_S: Array = np.array([math.comb(count, int(number)) for number in numbers_S], dtype=np.float64)
    return ways_S * GRID_P[:, None] ** numbers_S * (1 - GRID_P[:, None]) ** (count - numbers_S)
