"""Group-relative advantages on plain floats (paper section 1.6; leave-one-out as in the published recipe), and how much
of a group's variance lies between its actions."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Hashable, Sequence
from typing import Literal

Estimator = Literal["leave_one_out", "group"]

_EPSILON = 1e-6
"""Rewards lie in [0, 1]. Those within this of each other are equal: what is left is rounding."""


def have_spread(rewards: Sequence[float]) -> bool:
    """Whether the rewards differ by more than rounding, so that a group has something to tell."""
    return bool(rewards) and max(rewards) - min(rewards) > _EPSILON


def group_advantages(rewards_G: Sequence[float], estimator: Estimator = "leave_one_out") -> list[float]:
    """Advantage of each reward within its group.

    ``group``: (r_i - mean) / (population standard deviation + 1e-6), GRPO's form. At most sqrt(G - 1), and they sum
    to 0.

    ``leave_one_out``: r_i minus the mean of the *other* rewards, divided by the others' unbiased standard deviation
    + 1e-6; where the others are all equal the difference stays undivided, which damps a single lucky success. At most
    sqrt(2 (G - 1)).

    With graded rewards the others may be *nearly* equal. Dividing by their deviation would then give an advantage
    without bound: 600,000 for a 0 among 1, 0.9999995, 1, 0.9999995. Below range / sqrt(2 (G - 1)), which no group of
    two rewards goes below, the divisor therefore turns from the deviation to 1 without a jump, so others that are
    nearly equal count as equal ones do.

    Rewards within 1e-6 of each other give exactly 0 for every member (Proposition 3.1).
    """
    if not have_spread(rewards_G):
        return [0.0] * len(rewards_G)
    if estimator == "group":
        mean = math.fsum(rewards_G) / len(rewards_G)
        deviation = math.sqrt(math.fsum((r - mean) ** 2 for r in rewards_G) / len(rewards_G))
        return [(r - mean) / (deviation + _EPSILON) for r in rewards_G]
    num_others = len(rewards_G) - 1
    least = (max(rewards_G) - min(rewards_G)) / math.sqrt(2 * num_others)
    advantages = []
    for i, reward in enumerate(rewards_G):
        others = [*rewards_G[:i], *rewards_G[i + 1 :]]
        mean = math.fsum(others) / num_others
        divisor = 1.0
        if num_others > 1 and min(others) != max(others):
            deviation = math.sqrt(math.fsum((r - mean) ** 2 for r in others) / (num_others - 1))
            divisor = (deviation if deviation >= least else least ** (deviation / least)) + _EPSILON
        advantages.append((reward - mean) / divisor)
    return advantages


def action_variance(rewards_GN: Sequence[Sequence[float]], actions_G: Sequence[Hashable] | None = None) -> float | None:
    """Variance of the value of a turn's actions when each value is known only as the mean of a few noisy rewards.

    The variance of the means holds both the actions' own variance and that of the noise over N. The noise is estimated
    within the actions and subtracted (one-way random effects, method of moments). The difference is unbiased; what is
    below 0 becomes 0.

    Args:
        rewards_GN: for each of G >= 2 samples the final rewards of its N >= 2 continuations.
        actions_G: what was sampled. Equal actions share their continuations, so there is no noise between them;
            None: all differ.

    Returns:
        the variance (of a population of actions: divided by G - 1), or None with too few samples or continuations.
    """
    if len(rewards_GN) < 2 or any(len(rewards_N) < 2 for rewards_N in rewards_GN):
        return None
    means_G = [statistics.fmean(rewards_N) for rewards_N in rewards_GN]
    noises_G = [statistics.variance(rewards_N) / len(rewards_N) for rewards_N in rewards_GN]
    differences = []
    for i, j in itertools.combinations(range(len(means_G)), 2):
        shared = actions_G is not None and actions_G[i] == actions_G[j]
        noise = 0.0 if shared else noises_G[i] + noises_G[j]
        differences.append(((means_G[i] - means_G[j]) ** 2 - noise) / 2)
    return max(0.0, statistics.fmean(differences))
