"""What a few samples say about a pass rate: coverage in simulation, and closed forms as oracles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pivotrl.selection.pass_rates import (
    GRID_P,
    Evidence,
    PassRates,
    chance_mixed,
    chance_of_pivot,
    deviation,
    interval,
    mean,
)

_NO_TURNS = PassRates.fit([])


def test_without_turns_the_prior_is_jeffreys() -> None:
    """Beta(1/2, 1/2) is conjugate: three passes of four give Beta(3.5, 1.5)."""
    posterior_P = _NO_TURNS.posterior(Evidence(3, 4))
    exact = stats.beta(3.5, 1.5)
    assert mean(posterior_P) == pytest.approx(exact.mean(), abs=2e-3)
    assert interval(posterior_P) == pytest.approx(exact.interval(0.95), abs=0.02)
    mixed = 1 - exact.expect(lambda p: p**8) - exact.expect(lambda p: (1 - p) ** 8)
    assert chance_mixed(posterior_P, 8) == pytest.approx(mixed, abs=2e-3)
    assert deviation(posterior_P) == pytest.approx(exact.expect(lambda p: math.sqrt(p * (1 - p))), abs=2e-3)


def test_the_chance_of_a_pivot_is_that_of_the_samples_still_to_come() -> None:
    """One pass of two samples is mixed already; only the mean over eight must stay below 0.6."""
    posterior_P = _NO_TURNS.posterior(Evidence(1, 2))
    to_come = stats.betabinom(6, 1.5, 1.5)
    assert chance_of_pivot(Evidence(1, 2), posterior_P, 8, 0.6) == pytest.approx(to_come.cdf(3), abs=2e-3)
    assert chance_of_pivot(Evidence(8, 8), _NO_TURNS.posterior(Evidence(8, 8)), 8, 0.6) == 0
    assert chance_of_pivot(Evidence(4, 8), _NO_TURNS.posterior(Evidence(4, 8)), 8, 0.6) == pytest.approx(1)


def test_a_demonstration_bounds_the_pass_rate_from_below() -> None:
    """The verifier accepts the demonstrated action, and the model takes it with probability 0.7."""
    posterior_P = _NO_TURNS.posterior(Evidence(0, 0, at_least=0.7))
    assert posterior_P[GRID_P < 0.68].sum() == 0
    assert chance_of_pivot(Evidence(0, 0, 0.9), _NO_TURNS.posterior(Evidence(0, 0, 0.9)), 32, 0.6) < 1e-4


def test_samples_beat_a_bound_that_they_contradict() -> None:
    posterior_P = _NO_TURNS.posterior(Evidence(0, 4, at_least=1.0))
    assert posterior_P.sum() == pytest.approx(1)
    assert mean(posterior_P) < 0.2


def _beta(generator: np.random.Generator, count: int) -> np.ndarray:
    return generator.beta(0.3, 0.6, count)


def _spikes(generator: np.random.Generator, count: int) -> np.ndarray:
    """Four turns of ten never pass, two always do."""
    kind, rates = generator.random(count), generator.beta(1, 2, count)
    return np.where(kind < 0.4, 0.0, np.where(kind > 0.8, 1.0, rates))


@pytest.mark.parametrize("world", [_beta, _spikes])
@pytest.mark.parametrize("num_samples", [4, 8, 16])
def test_intervals_cover_and_the_share_of_mixed_groups_comes_true(world, num_samples: int) -> None:
    generator = np.random.default_rng(0)
    covered, foretold, true = [], [], []
    for _ in range(20):
        rates_N = world(generator, 400)
        evidence_N = [Evidence(float(k), num_samples) for k in generator.binomial(num_samples, rates_N)]
        fitted = PassRates.fit(evidence_N)
        posteriors = {evidence: fitted.posterior(evidence) for evidence in evidence_N}
        bounds = {evidence: interval(posterior_P) for evidence, posterior_P in posteriors.items()}
        step = 0.004  # a rate lies between two points of the grid
        covered += [bounds[e][0] - step <= p <= bounds[e][1] + step for e, p in zip(evidence_N, rates_N, strict=True)]
        foretold += [chance_mixed(posteriors[evidence], 8) for evidence in evidence_N]
        true += list(1 - rates_N**8 - (1 - rates_N) ** 8)
    assert 0.93 <= np.mean(covered) <= 0.975
    assert np.mean(foretold) == pytest.approx(np.mean(true), abs=0.025)
