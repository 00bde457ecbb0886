"""What the theorems speak of, from probabilities, scores and rewards; theory.py takes these from the micro model.

Suffixes: _N actions of a turn, _P parameters, _I turns, _ST seeds and turns. A score is the gradient of an action's
log-probability.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from pivotrl.advantages import Estimator, group_advantages
from pivotrl.evaluation.differences import crossed_difference

Array = npt.NDArray[np.float64]

EDGE, MIDDLE = 0.15, 0.4
"""Reward deviations: below the first a turn nearly always passes or fails (2.3 %), above the second it is mixed."""


# --- Theorem 3.2 ------------------------------------------------------------------------------------------------------


def natural_norm(score_NP: Array, probability_N: Array, reward_N: Array, rcond: float = 1e-6) -> float:
    """Fisher norm of the natural gradient of the expected reward, with the Fisher matrix of these actions alone.

    The squared norm is that of sqrt(pi) r after projection on the span of the centred scores sqrt(pi) g.
    """
    root_N = np.sqrt(probability_N / probability_N.sum())
    centred_NP = score_NP - (root_N**2) @ score_NP
    gram_NN = (root_N[:, None] * centred_NP) @ (root_N[:, None] * centred_NP).T
    value_N, vector_NN = np.linalg.eigh(gram_NN)
    kept_NK = vector_NN[:, value_N > rcond * value_N.max()]
    return float(np.linalg.norm(kept_NK.T @ (root_N * reward_N)))


def signal_weight(pass_rate: float, group_size: int, estimator: Estimator = "leave_one_out") -> float:
    """Expected advantage of a passed sample minus that of a failed one, exactly.

    As scores have mean 0, the expected gradient of equation 7 at a turn is this times the gradient of its pass rate.
    """
    total = 0.0
    for passed in range(group_size):  # of the other samples
        chance = math.comb(group_size - 1, passed) * pass_rate**passed * (1 - pass_rate) ** (group_size - 1 - passed)
        others = [1.0] * passed + [0.0] * (group_size - 1 - passed)
        total += chance * (
            group_advantages([1.0, *others], estimator)[0] - group_advantages([0.0, *others], estimator)[0]
        )
    return total


def relation(deviation_I: Array, norm_I: Array, tasks_I: Sequence[str], num_resamples: int = 2000) -> dict[str, object]:
    """How the norm of the gradient goes with the reward deviation, with 95 % intervals by bootstrap over tasks.

    ``slope`` is that of log norm on log deviation: 1 means proportional. ``edge`` is the mean norm of turns below
    ``EDGE`` as a share of that of turns above ``MIDDLE``; ``edge_predicted`` the same of the deviation itself.
    """
    names = sorted(set(tasks_I))
    rows = [np.flatnonzero(np.array(tasks_I) == name) for name in names]
    generator = np.random.default_rng(0)
    draws = [
        np.concatenate([rows[k] for k in generator.integers(len(names), size=len(names))]) for _ in range(num_resamples)
    ]
    statistics: dict[str, Callable[[Array, Array], float]] = {
        "pearson": lambda x, y: float(np.corrcoef(x, y)[0, 1]),
        "spearman": lambda x, y: float(np.corrcoef(_ranks(x), _ranks(y))[0, 1]),
        "slope": lambda x, y: float(np.polyfit(np.log(x), np.log(y), 1)[0]),
        "edge": lambda x, y: _edge_share(x, y),
        "edge_predicted": lambda x, _: _edge_share(x, x),
    }
    found: dict[str, object] = {"turns": len(deviation_I), "tasks": len(names)}
    found |= {"edge_turns": int((deviation_I < EDGE).sum()), "middle_turns": int((deviation_I > MIDDLE).sum())}
    for name, statistic in statistics.items():
        value = statistic(deviation_I, norm_I)
        drawn = np.array([statistic(deviation_I[i], norm_I[i]) for i in draws])
        drawn = drawn[np.isfinite(drawn)]
        low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (math.nan, math.nan)
        found[name] = [value, float(low), float(high)] if math.isfinite(value) else None
    return found


def _ranks(values: Array) -> Array:
    return np.argsort(np.argsort(values)).astype(np.float64)


def _edge_share(deviation_I: Array, norm_I: Array) -> float:
    edge, middle = norm_I[deviation_I < EDGE], norm_I[deviation_I > MIDDLE]
    return float(edge.mean() / middle.mean()) if len(edge) and len(middle) else math.nan


# --- Theorem 3.3 ------------------------------------------------------------------------------------------------------


def drift(accepted_before_N: Array, accepted_after_N: Array, rejected_before: Array, rejected_after: Array) -> Array:
    """How a turn's distribution moved, in the order of ``DRIFTS``.

    Args:
        accepted_before_N, accepted_after_N: log-probabilities of every accepted action.
        rejected_before, rejected_after: those of rejected actions drawn from the policy before, with repetitions.

    KL(before || after) is the sum of three parts: mass that moves between accepted and rejected actions, and changes
    of the conditional distribution within each. The optimum of Theorem 3.3 has the first part alone.
    """
    mass, mass_after = (float(np.exp(x).sum()) for x in (accepted_before_N, accepted_after_N))
    share_N = np.exp(accepted_before_N) / mass
    change_N, rejected_change = accepted_after_N - accepted_before_N, rejected_after - rejected_before
    mean = float(share_N @ change_N)
    num_rejected = len(rejected_change)
    moved = mass * math.log(mass / mass_after) + (1 - mass) * math.log((1 - mass) / (1 - mass_after))
    within_accepted = mass * (math.log(mass_after / mass) - mean)
    within_rejected = (1 - mass) * (math.log((1 - mass_after) / (1 - mass)) - float(rejected_change.mean()))
    return np.array(
        [
            mass_after,
            math.log(mass_after / (1 - mass_after)) - math.log(mass / (1 - mass)),
            math.sqrt(2.0 * float(share_N @ (change_N - mean) ** 2)),
            math.sqrt(2.0 * float(rejected_change.var(ddof=1))) if num_rejected > 1 else 0.0,
            moved,
            within_accepted,
            within_rejected,
        ]
    )


DRIFTS = ("pass", "logit", "accepted_pairs", "rejected_pairs", "kl_moved", "kl_accepted", "kl_rejected")
"""Pass rate after; change of its logit; root mean square change of the log-ratio of two accepted actions and of two
rejected ones, drawn as the policy before draws them, in nats; the three parts of KL(before || after), in nats."""


def at_level(values: Sequence[Array], level: float) -> Array | None:
    """The turns' drifts [turns, DRIFTS] where the mean pass rate first reaches the level, linear between checkpoints.

    Args:
        values: drifts of each checkpoint, the policy before among them.
    """
    for low, high in itertools.pairwise(values):
        start, end = low[:, 0].mean(), high[:, 0].mean()
        if start < level <= end:
            share = (level - start) / (end - start)
            return (1 - share) * low + share * high
    return None


def mean_interval(value_ST: Array) -> list[float]:
    found = crossed_difference(value_ST)
    return [found.mean, found.low, found.high]


def share_interval(part_ST: Array, whole_ST: Array) -> list[float]:
    """Sum of the parts over sum of the wholes, with an interval for new seeds and turns (linearised)."""
    share = float(part_ST.sum() / whole_ST.sum())
    found = crossed_difference((part_ST - share * whole_ST) / whole_ST.mean())
    return [share, share + found.low - found.mean, share + found.high - found.mean]
