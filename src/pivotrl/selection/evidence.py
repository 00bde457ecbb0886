"""What the samples of a turn say about it: posterior of the pass rate, chance of a mixed group, signal, cost, route.

Rewards between 0 and 1 count as shares of a pass. A graded reward varies less than a pass or failure of the same mean,
so the posterior of a graded pass rate is wider than it need be, and three numbers take the grades into account:

- a group is mixed unless all its rewards are equal: for each reward that occurred, the probability that a whole group
  gets it is estimated from how often it occurred;
- the deviation is multiplied by that of the samples, relative to passes and failures of the same mean;
- the noise of continuations is taken out of the deviation (:func:`pivotrl.selection.draws.signal_variance`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pivotrl.records import Route, SampleGroup
from pivotrl.selection.draws import Draw
from pivotrl.selection.options import SelectionOptions
from pivotrl.selection.pass_rates import (
    Evidence,
    PassRates,
    chance_all_pass,
    chance_mixed,
    deviation,
    interval,
    mean,
)

_EPSILON = 1e-6
_DECIMALS = 2
"""Sums of graded rewards are rounded to these, so that many turns share one posterior."""


@dataclass(frozen=True)
class TurnEvidence:
    """About one turn with at least one verdict."""

    pass_rate: float
    """Posterior mean."""
    low: float
    high: float
    """95 % interval of the pass rate."""
    chance_mixed: float
    """Probability that the next group of G samples has both passes and failures."""
    deviation: float
    """Expected standard deviation of the reward, to which the signal is proportional (Theorem 3.2)."""
    route: Route


@dataclass(frozen=True)
class _Known:
    """What follows from the number of passes alone."""

    pass_rate: float
    low: float
    high: float
    chance_mixed: float
    chance_all_pass: float
    deviation: float


def evidence_of(draws: Sequence[Draw], options: SelectionOptions) -> list[TurnEvidence | None]:
    """For each turn, under a prior fitted to all of them; None where no sample has a verdict."""
    counts = [_count(draw.rewards) for draw in draws]
    rates = PassRates.fit([evidence for evidence in counts if evidence is not None])
    known: dict[Evidence, _Known] = {}

    def look_up(evidence: Evidence) -> _Known:
        if evidence not in known:
            posterior_P = rates.posterior(evidence)
            known[evidence] = _Known(
                mean(posterior_P),
                *interval(posterior_P),
                chance_mixed(posterior_P, options.selection_group_size),
                chance_all_pass(posterior_P, options.selection_group_size),
                deviation(posterior_P),
            )
        return known[evidence]

    def about(draw: Draw, evidence: Evidence) -> TurnEvidence:
        known = look_up(evidence)
        chance, spread = known.chance_mixed, known.deviation
        if _is_graded(draw.rewards):
            chance = max(0.0, 1 - math.fsum(look_up(one).chance_all_pass for one in _kinds(draw.rewards)))
            spread *= _relative_deviation(draw)
        if chance >= options.min_mixed:
            route: Route = "practise"
        else:
            route = "imitate" if known.pass_rate < 0.5 else "leave"
        return TurnEvidence(known.pass_rate, known.low, known.high, chance, spread, route)

    return [None if evidence is None else about(draw, evidence) for draw, evidence in zip(draws, counts, strict=True)]


def _count(rewards: Sequence[float]) -> Evidence | None:
    passes = min(round(math.fsum(rewards), _DECIMALS), len(rewards))
    return Evidence(float(passes), len(rewards)) if rewards else None


def _kinds(rewards: Sequence[float]) -> list[Evidence]:
    """Each different reward against all others, as passes and failures."""
    counts = Counter(round(reward, 6) for reward in rewards)
    return [Evidence(float(count), len(rewards)) for count in counts.values()]


def _is_graded(rewards: Sequence[float]) -> bool:
    return any(_EPSILON < reward < 1 - _EPSILON for reward in rewards)


def _relative_deviation(draw: Draw) -> float:
    """Deviation of the rewards, relative to passes and failures with their mean."""
    assert draw.mean is not None and draw.variance is not None
    largest = draw.mean * (1 - draw.mean)
    return min(1.0, math.sqrt(draw.variance / largest)) if largest > _EPSILON else 1.0


def group_tokens(group: SampleGroup, group_size: int) -> float | None:
    """Tokens that a new group is expected to sample: G times the mean length here. None if token ids are missing."""
    drawn = [completion for completion in group.completions_G if completion.fault is None]
    if not drawn or any(completion.text and not completion.token_ids_T for completion in drawn):
        return None
    return group_size * sum(len(completion.token_ids_T) for completion in drawn) / len(drawn)


def visit_tokens(group: SampleGroup, group_size: int) -> float | None:
    """Tokens that a visit to the turn in training computes: the prompt once, and the sampled tokens of a new group.

    The prompt counts once because sampling and update compute it once for a group (docs/engine.md), and each of its
    tokens counts like a sampled one because the update, the larger part of the work, treats them alike. Turns of one
    trajectory in one step share more; that depends on the draw and is left out.
    """
    sampled = group_tokens(group, group_size)
    return None if sampled is None or group.num_prompt_tokens == 0 else group.num_prompt_tokens + sampled
