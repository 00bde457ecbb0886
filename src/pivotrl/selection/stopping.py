"""When enough is known about a turn: which turns an adaptive profile samples further.

A profile of K samples a turn decides which turns are pivots. Most are decided long before: a turn that has passed eight
times will hardly be a pivot. At the end of each round we know, for every turn, the probability that K samples would
decide otherwise than those at hand. Turns stop, the surest first, as long as the F1 score of the decisions against
those of K samples is expected to stay above a target (successive elimination, with a Bayesian guarantee). They stop,
too, when less than half a wrong decision is expected in all: where there are no pivots there is no F1 score.
"""

from __future__ import annotations

from collections.abc import Sequence

from pivotrl.selection.pass_rates import Evidence, PassRates, chance_of_pivot

_EPSILON = 1e-6
_FEW = 0.5


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


def expected_f1(evidence_N: Sequence[Evidence], num_samples: int, max_mean: float) -> float | None:
    """F1 score that the decisions at hand are expected to have against those of ``num_samples`` samples; None if no
    turn is a pivot now."""
    told_N = chances_of_error(evidence_N, num_samples, max_mean)
    wrong = sum(error for _, error in told_N)
    right = sum(chance for (chance, _), e in zip(told_N, evidence_N, strict=True) if is_pivot(e, max_mean))
    return 2 * right / (2 * right + wrong) if right else None


def undecided(evidence_N: Sequence[Evidence], num_samples: int, max_mean: float, min_f1: float) -> list[int]:
    """Places of the turns to sample further; none once the expected F1 score reaches ``min_f1``.

    A turn that has stopped may be taken up again: wrong decisions are allowed where they are cheapest now.

    Args:
        evidence_N: of all turns, those that have stopped too.
        num_samples: K, the samples that would decide a turn.
    """
    told_N = chances_of_error(evidence_N, num_samples, max_mean)
    # F1 = 2 TP / (2 TP + FP + FN): so many wrong decisions leave it at the target.
    right = sum(chance for (chance, _), e in zip(told_N, evidence_N, strict=True) if is_pivot(e, max_mean))
    allowed = max(2 * right * (1 / min_f1 - 1), _FEW)
    surest_first = sorted(range(len(told_N)), key=lambda place: (told_N[place][1], place))
    for number, place in enumerate(surest_first):
        allowed -= told_N[place][1]
        if allowed < 0:
            return sorted(surest_first[number:])
    return []
