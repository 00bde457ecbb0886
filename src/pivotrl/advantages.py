"""Group-relative advantages on plain floats (paper section 1.6; leave-one-out as in the published recipe)."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
