"""Three ways to find the turns that teach, compared by their samples.

- fixed: K samples at every candidate turn, then training at the pivots.
- adaptive: rounds of a few samples; each goes on only where the decision is open (:mod:`pivotrl.selection.stopping`).
- lazy: no profile. Training samples G actions at candidate turns and learns from the groups that are mixed.

The pass rates of all candidate turns are drawn from the distribution fitted to the pilot. They are those of the
reference policy; what training changes is not foreseen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pivotrl.options import AtLeast1, Share, check
from pivotrl.profiling.adaptive import ROUND
from pivotrl.report.planning.pilot import PilotTurn
from pivotrl.report.planning.projection import Projection, Range
from pivotrl.selection import SelectionOptions
from pivotrl.selection.pass_rates import GRID_P, Evidence, PassRates, chance_mixed, chance_of_pivot
from pivotrl.selection.stopping import undecided
from pivotrl.training_options import TrainingOptions

Array = npt.NDArray[np.float64]

MIN_F1 = 0.95
"""An adaptive profile ends when its decisions are expected to agree this well with those of K samples."""
_SIMULATED = 500
"""Turns of a simulated adaptive profile."""
_RESAMPLES = 40
_NORMAL = 1.96


@dataclass(frozen=True)
class PlannedTraining:
    """What will be trained on, and for how long."""

    max_mean: Share = SelectionOptions.max_mean
    """lambda: turns that succeed more often than this are too easy to be pivots."""

    num_steps: AtLeast1 = TrainingOptions.num_steps
    """Optimizer steps."""
    turns_per_step: AtLeast1 = TrainingOptions.turns_per_step
    """B, turns per step."""
    group_size: AtLeast1 = TrainingOptions.group_size
    """G, actions sampled per turn."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Way:
    """The samples of one way, with as many mixed groups in training as the fixed one has."""

    name: str
    profile_samples: Range
    profile_rounds: float
    """Times that a prompt is computed for the profile, on average."""
    training_groups: Range
    training_samples: Range

    @property
    def samples(self) -> Range:
        return self.profile_samples.plus(self.training_samples)


@dataclass(frozen=True)
class Comparison:
    """The ways, and what they are measured by."""

    ways: tuple[Way, ...]
    mixed_groups: Range
    """Groups of the training whose rewards differ."""
    mixed_at_pivots: Range
    """Share of groups of G that are mixed, at pivots."""
    mixed_anywhere: Range
    """The same, at any candidate turn."""


@dataclass(frozen=True)
class _Rates:
    """What follows from one fitted distribution of pass rates."""

    at_pivots: float
    anywhere: float
    adaptive_samples: float
    """For each candidate turn that gets samples."""


def compare(rows: Sequence[PilotTurn], found: Projection, training: PlannedTraining) -> Comparison:
    """
    Args:
        rows: the turns of the pilot; at least one has a verdict.
    """
    k, g, number = found.num_samples, training.group_size, found.num_candidates
    pivot_P = _pivots_at_each_rate(k, training.max_mean)
    best = _rates(rows, pivot_P, k, training, 0)
    again = [_rates(drawn, pivot_P, k, training, seed) for seed, drawn in enumerate(_resampled(rows), start=1)]
    narrowing = math.sqrt(max(0.0, 1 - len(rows) / number))

    def spread(name: str, below: str | None = None) -> Range:
        one = [getattr(rates, name) / (getattr(rates, below) if below else 1.0) for rates in (best, *again)]
        error = narrowing * float(np.std(np.log(np.maximum(one[1:], 1e-12))))
        return Range(one[0], one[0] * math.exp(-_NORMAL * error), one[0] * math.exp(_NORMAL * error))

    fits = 1 - found.shares["left out"].mean
    batch = Range(*(min(float(training.turns_per_step), value) for value in _three(found.pivots)))
    groups = batch.times(training.num_steps)
    at_pivots, anywhere = _share(spread("at_pivots")), _share(spread("anywhere"))
    trained = groups.times(g)
    lazy = spread("at_pivots", below="anywhere").times(groups.mean)
    ways = (
        Way(f"fixed, K = {k}", Range.exactly(number * fits * k), 1.0, groups, trained),
        Way(
            "adaptive",
            spread("adaptive_samples").times(number * fits),
            best.adaptive_samples / min(ROUND, k),
            groups,
            trained,
        ),
        Way("lazy", Range.exactly(0.0), 0.0, lazy, lazy.times(g)),
    )
    return Comparison(ways, at_pivots.times(groups.mean), at_pivots, anywhere)


def _rates(rows: Sequence[PilotTurn], pivot_P: Array, num_samples: int, training: PlannedTraining, seed: int) -> _Rates:
    """
    Args:
        pivot_P: probability that a turn of each pass rate is a pivot after K samples.
    """
    sampled = [row for row in rows if row.num_samples]
    scored = [row.evidence for row in sampled if row.evidence.samples]
    rates = PassRates.fit(scored)
    pivots_P = rates.prior_P * pivot_P
    judged = len(scored) / len(sampled) if sampled else 0.0
    adaptive = _adaptive(rates, num_samples, training.max_mean, seed)
    return _Rates(
        at_pivots=chance_mixed(pivots_P / max(pivots_P.sum(), 1e-300), training.group_size),
        anywhere=chance_mixed(rates.prior_P, training.group_size) * len(scored) / len(rows),
        adaptive_samples=judged * adaptive + (1 - judged) * num_samples,  # nothing is learned where nothing is judged
    )


def _pivots_at_each_rate(num_samples: int, max_mean: float) -> Array:
    """Probability that a turn of each pass rate of the grid is a pivot after K samples."""
    each_PP = np.eye(len(GRID_P))
    return np.array([chance_of_pivot(Evidence(0, 0), known_P, num_samples, max_mean) for known_P in each_PP])


def _adaptive(rates: PassRates, num_samples: int, max_mean: float, seed: int) -> float:
    """Mean samples of a simulated adaptive profile."""
    generator = np.random.default_rng(seed)
    rates_N = generator.choice(GRID_P, size=_SIMULATED, p=rates.prior_P / rates.prior_P.sum())
    evidence_N = [Evidence(0, 0)] * _SIMULATED
    places = list(range(_SIMULATED))
    while places:
        for place in places:
            known = evidence_N[place]
            drawn = min(ROUND, num_samples - known.samples)
            passes = float(generator.binomial(drawn, rates_N[place]))
            evidence_N[place] = Evidence(known.passes + passes, known.samples + drawn)
        places = undecided(evidence_N, num_samples, max_mean, MIN_F1)
    return sum(evidence.samples for evidence in evidence_N) / _SIMULATED


def _resampled(rows: Sequence[PilotTurn]) -> list[list[PilotTurn]]:
    """The pilot with its tasks drawn again, with replacement."""
    by_task: dict[str, list[PilotTurn]] = {}
    for row in rows:
        by_task.setdefault(row.task, []).append(row)
    tasks, generator = list(by_task.values()), np.random.default_rng(0)
    drawn = generator.integers(len(tasks), size=(_RESAMPLES, len(tasks)))
    return [[row for place in places for row in tasks[place]] for places in drawn]


def _three(found: Range) -> tuple[float, float, float]:
    return found.mean, found.low, found.high


def _share(found: Range) -> Range:
    return Range(*(min(1.0, value) for value in _three(found)))
