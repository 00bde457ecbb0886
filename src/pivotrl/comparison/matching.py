"""What arms that sample pay until they reach the same score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pivotrl.comparison.reaching import COSTS, Ratio, matched_level, ratio
from pivotrl.comparison.table import Table


@dataclass(frozen=True)
class Match:
    """What two arms, by name, pay in one cost until they reach the same score."""

    first: str
    second: str
    cost: str
    ratio: Ratio


def sampling_arms(table: Table, arms: Sequence[str]) -> list[str]:
    """Those that pay for rollout turns."""
    return [
        arm
        for arm in arms
        if (seeds := table.seeds(arm))
        and any(cost.rollout_turns for config in table.configs(arm) for cost in table.costs(config, seeds))
    ]


def matches(table: Table, arms: Sequence[str], score: str) -> list[Match]:
    """The first arm that samples against each other one, in every cost that was counted."""
    sampling = sampling_arms(table, arms)
    found = []
    for second in sampling[1:]:
        first = sampling[0]
        if table.seeds(first, second):
            level = matched_level(table, first, second, score)
            for cost in COSTS:
                if made := ratio(table, first, second, score, level, cost):
                    found.append(Match(first, second, cost, made))
    return found


def times(made: Ratio) -> str:
    """``4.96 [2.69, ∞]``."""
    value, low, high = ("∞" if math.isinf(part) else f"{part:.2f}" for part in (made.ratio, made.low, made.high))
    return f"{value} [{low}, {high}]"


def paid(cost: float) -> str:
    return "not reached" if math.isinf(cost) else f"{cost:,.0f}"
