"""Adaptive profiles, simulated: the F1 score comes out as asked, for fewer samples.

Run alone: python -m pytest tests/test_stopping.py
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pivotrl.selection.pass_rates import Evidence
from pivotrl.selection.stopping import expected_f1, is_pivot, undecided
from test_pass_rates import _beta, _spikes

K, ROUND, MAX_MEAN = 32, 4, 0.6
World = Callable[[np.random.Generator, int], np.ndarray]


def _softmax(generator: np.random.Generator, count: int) -> np.ndarray:
    """Many pass rates just above 0, which a few samples cannot tell from 0."""
    powers = np.exp(3 * generator.standard_normal((count, 4)))
    return powers[:, 0] / powers.sum(axis=1)


def adaptive(world: World, target: float, seed: int) -> tuple[float, float, float]:
    """(F1 score against K samples, the one that was expected, share of the K samples)."""
    generator = np.random.default_rng(seed)
    draws_NK = generator.random((300, K)) < world(generator, 300)[:, None]
    number_N = np.full(300, ROUND)

    def evidence() -> list[Evidence]:
        return [Evidence(float(draws_NK[i, : number_N[i]].sum()), int(number_N[i])) for i in range(300)]

    while active := [i for i in undecided(evidence(), K, MAX_MEAN, target) if number_N[i] < K]:
        number_N[active] += ROUND
    found = np.array([is_pivot(told, MAX_MEAN) for told in evidence()])
    full = np.array([is_pivot(Evidence(float(row.sum()), K), MAX_MEAN) for row in draws_NK])
    expected = expected_f1(evidence(), K, MAX_MEAN)
    assert expected is not None
    return 2 * (found & full).sum() / (found.sum() + full.sum()), expected, number_N.mean() / K


@pytest.mark.parametrize("world", [_beta, _spikes, _softmax])
@pytest.mark.parametrize("target", [0.9, 0.95])
def test_the_f1_score_is_the_one_that_was_asked_for(world: World, target: float) -> None:
    runs = [adaptive(world, target, seed) for seed in range(12)]
    score, expected, share = np.mean(runs, axis=0)
    assert target - 0.03 < score < target + 0.03
    assert expected == pytest.approx(score, abs=0.03)
    assert share < 0.6


def test_nothing_to_find_is_found_out() -> None:
    evidence_N = [Evidence(0, 16)] * 300
    assert undecided(evidence_N, K, MAX_MEAN, 0.95) == []
    assert expected_f1(evidence_N, K, MAX_MEAN) is None
    assert len(undecided([Evidence(0, 1)] * 10 + [Evidence(1, 2)] * 10, K, MAX_MEAN, 0.95)) > 0
