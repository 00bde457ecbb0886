"""The mean of paired differences over seeds and tasks, both of which are samples.

Items of one task are alike, and so are items of one trained policy. An interval that resamples tasks alone says what
these few policies are worth; it does not say what the method is worth. Here both count (two-way random effects).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pivotrl.intervals import student_p_value, student_quantile

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """A mean difference, its 95 % interval, and the two-sided p-value for no difference."""

    mean: float
    low: float
    high: float
    p_value: float
    num_seeds: int
    num_clusters: int


def crossed_difference(gain_ST: Array, bounded: bool = False, level: float = 0.95) -> Difference:
    """Mean of ``gain_ST`` [seeds, tasks] with an interval for new seeds and new tasks.

    The variance of the mean is var(seed means) / S + var(task means) / T - var(residuals) / (S T), the estimate of a
    two-way random effects model, and at least the larger of the first two terms. Student's t has Satterthwaite's
    degrees of freedom. With one seed the interval is for new tasks alone; with one task nothing is known, and the
    interval is infinite.

    Args:
        bounded: values lie in [-1, 1]. Two imaginary tasks join then, one better and one worse by a whole item at
            one seed (as in :func:`pivotrl.intervals.paired_difference`), so that an interval has width even where
            nothing differs.

    Raises:
        ValueError: no value, or one that is not finite.
    """
    num_seeds, num_clusters = gain_ST.shape
    if not gain_ST.size or not np.isfinite(gain_ST).all():
        raise ValueError(f"differences need finite values, not an array of shape {gain_ST.shape} with gaps")
    mean = float(gain_ST.mean())
    if bounded:
        item_S1 = np.full((num_seeds, 1), 1.0 / num_seeds)
        gain_ST = np.concatenate([gain_ST, item_S1, -item_S1], axis=1)
    seeds, tasks = gain_ST.shape
    if tasks < 2:
        return Difference(mean, -math.inf, math.inf, 1.0, num_seeds, num_clusters)
    centre = float(gain_ST.mean())
    seed_S, task_T = gain_ST.mean(axis=1), gain_ST.mean(axis=0)
    of_seeds = float(seed_S.var(ddof=1)) / seeds if seeds > 1 else 0.0
    of_tasks = float(task_T.var(ddof=1)) / tasks if tasks > 1 else 0.0
    residual = 0.0
    if seeds > 1 and tasks > 1:
        residual_ST = gain_ST - seed_S[:, None] - task_T[None, :] + centre
        residual = float((residual_ST**2).sum()) / ((seeds - 1) * (tasks - 1)) / (seeds * tasks)
    variance = max(of_seeds, of_tasks, of_seeds + of_tasks - residual)
    freedom = 1.0
    if variance > 0.0:
        parts = [part**2 / (count - 1) for part, count in ((of_seeds, seeds), (of_tasks, tasks)) if count > 1]
        freedom = variance**2 / sum(parts) if sum(parts) > 0.0 else 1.0
    whole = max(1, math.floor(freedom))
    half = student_quantile(level, whole) * math.sqrt(variance)
    p_value = student_p_value(centre / math.sqrt(variance), whole) if variance > 0.0 else float(mean == 0.0)
    low, high = min(mean, centre - half), max(mean, centre + half)
    if bounded:
        low, high = max(-1.0, low), min(1.0, high)
    return Difference(mean, low, high, p_value, num_seeds, num_clusters)
