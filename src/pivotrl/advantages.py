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


def group_advantages(rewards_G: Sequence[float], estimator: Estimator = "leave_one_out") -> list[float]:
    """Advantage of each reward within its group.

    ``group``: (r_i - mean) / (population standard deviation + 1e-6), GRPO's form.
    ``leave_one_out``: mean and unbiased standard deviation of the *other* rewards; where the others are all equal
    the difference stays undivided, which damps a single lucky success.

    Equal rewards give exactly 0 for every member (Proposition 3.1).
    """
    if not rewards_G or min(rewards_G) == max(rewards_G):
        return [0.0] * len(rewards_G)
    if estimator == "group":
        mean = math.fsum(rewards_G) / len(rewards_G)
        deviation = math.sqrt(math.fsum((r - mean) ** 2 for r in rewards_G) / len(rewards_G))
        return [(r - mean) / (deviation + _EPSILON) for r in rewards_G]
    advantages = []
    for i, reward in enumerate(rewards_G):
        others = [*rewards_G[:i], *rewards_G[i + 1 :]]
        mean = math.fsum(others) / len(others)
        difference = reward - mean
        if len(others) > 1 and min(others) != max(others):
            deviation = math.sqrt(math.fsum((r - mean) ** 2 for r in others) / (len(others) - 1))
            difference /= deviation + _EPSILON
        advantages.append(difference)
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
