"""Whether a training can have gained reward since its start, told from noisy steps.

The mean reward of a step is noisy: other turns, other samples. Two means of ten steps differ by chance, and a rail
looks again and again, so that sooner or later the later mean is the lower one in every training that has little left to
gain. The bound here is an upper confidence bound of the gain that holds for all looks of all rails of a run together.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from pivotrl.intervals import student_quantile

FALSE_ALARMS = 0.05
"""Chance that a run with a gain of ``LEAST_GAIN`` or more is ever taken for one without."""
LEAST_GAIN = 0.02
"""Mean reward; less counts as no gain."""
_MANY = 1_000
"""Degrees of freedom of a variance that is not estimated from the differences between steps."""
_NUM_RAILS = 3
"""Rails that ask for the gain."""


def most_gain(before: Sequence[Mapping[str, float]], now: Sequence[Mapping[str, float]], look: int) -> float:
    """Upper confidence bound of the mean reward now less that before, by Welch's interval; infinite if unknown.

    The look of number k has the share 6 / (pi * k)^2 of the false alarms, so those of any number of looks add up to at
    most ``FALSE_ALARMS``, however many follow.

    Args:
        before, now: metrics of some steps.
        look: from 1.
    """
    first, last = _mean_and_variance(before), _mean_and_variance(now)
    if first is None or last is None:
        return math.inf
    (mean, variance, freedom), (later, variance_later, freedom_later) = first, last
    total = variance + variance_later
    if total == 0.0:
        return later - mean
    welch = total**2 / (variance**2 / freedom + variance_later**2 / freedom_later)
    one_sided = FALSE_ALARMS / _NUM_RAILS * 6 / (math.pi * look) ** 2
    return later - mean + student_quantile(1 - 2 * one_sided, int(welch)) * math.sqrt(total)


def _mean_and_variance(rows: Sequence[Mapping[str, float]]) -> tuple[float, float, int] | None:
    """Of the mean reward over these steps, with degrees of freedom; None if it is unknown.

    The variance is at least that of independent groups which all pass or all fail: steps that happen to be equal, such
    as ten without any success, are no proof that there is no noise.
    """
    known = [row for row in rows if "reward/mean" in row and row.get("groups/with_verdict")]
    if not known:
        return None
    rewards = [row["reward/mean"] for row in known]
    mean, groups = statistics.fmean(rewards), sum(row["groups/with_verdict"] for row in known)
    observed = statistics.variance(rewards) / len(rewards) if len(rewards) > 1 else 0.0
    share = (mean * groups + 1) / (groups + 2)
    least = share * (1 - share) / groups
    return (mean, least, _MANY) if least >= observed else (mean, observed, len(rewards) - 1)
