"""When enough is known about a turn: which turns an adaptive profile samples further.

A profile of K samples a turn decides which turns are pivots. Most are decided long before: a turn that has passed eight
times will hardly be a pivot. At the end of each round we know, for every turn, the probability that K samples would
decide otherwise than those at hand. Turns stop, the surest first, as long as the F1 score of the decisions against
those of K samples is expected to stay above a target (successive elimination, with a Bayesian guarantee).
"""

from __future__ import annotations

from collections.abc import Sequence

from pivotrl.selection.pass_rates import Evidence, PassRates, chance_of_pivot

_EPSILON = 1e-6


def is_pivot(evidence: Evidence, max_mean: float) -> bool:
    """The paper's rule on the samples at hand."""
    mixed = _EPSILON < evidence.passes < evidence.samples - _EPSILON
    return mixed and evidence.passes / evidence.samples < max_mean


def chances_of_error(evidence_N: Sequence[Evidence], num_samples: int, max_mean: float) -> list[tuple[float, float]]:
    """For each turn the probability that it is a pivot after ``num_samples`` samples, and the probability that this
    differs from what :func:`is_pivot` says now."""
    rates = PassRates.fit(evidence_N)
    known: dict[Evidence, tuple[float, float]] = {}
    for evidence in set(evidence_N):
        chance = chance_of_pivot(evidence, rates.posterior(evidence), num_samples, max_mean)
        known[evidence] = chance, 1 - chance if is_pivot(evidence, max_mean) else chance
    return [known[evidence] for evidence in evidence_N]


def undecided(evidence_N: Sequence[Evidence], num_samples: int, max_mean: float, min_f1: float) -> list[int]:
    """Places of the turns to sample further; empty once the expected F1 score reaches ``min_f1``.

    Args:
        evidence_N: of all turns, decided ones too.
        num_samples: K, the samples that would decide a turn.
    """
    told_N = chances_of_error(evidence_N, num_samples, max_mean)
    # F1 = 2 TP / (2 TP + FP + FN): so many wrong decisions leave it at the target.
    right = sum(chance for (chance, _), e in zip(told_N, evidence_N, strict=True) if is_pivot(e, max_mean))
    allowed = 2 * right * (1 / min_f1 - 1)
    surest_first = sorted(range(len(told_N)), key=lambda place: told_N[place][1])
    for number, place in enumerate(surest_first):
        allowed -= told_N[place][1]
        if allowed < 0:
            rest = [place for place in surest_first[number:] if evidence_N[place].samples < num_samples]
            return sorted(rest)
    return []
