"""The score at equal forgetting, and the forgetting at equal score.

An arm has many configs (rate, checkpoint). Validation clusters, averaged over seeds, choose one for each level of
forgetting; test clusters, which had no say, give its score. So the best of many is never reported as such.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pivotrl.comparison.points import BASE
from pivotrl.comparison.table import Config, Table
from pivotrl.evaluation.differences import Difference, crossed_difference
from pivotrl.intervals import holm

BOUNDED = ("turns/", "episodes/", "progress/", "answers")
"""Measures whose values lie in [0, 1]."""


@dataclass(frozen=True)
class Choice:
    """A config that validation chose, and what test says of it: changes from the base."""

    config: Config
    score: Difference
    harm: Difference | None
    """None if nothing outside the task was measured."""


@dataclass(frozen=True)
class Contest:
    """Two arms at one level: what test says of the difference ``first - second``."""

    measure: str
    level: float
    """The most harm allowed, or the least score."""
    first: Choice
    second: Choice
    difference: Difference


def is_bounded(measure: str) -> bool:
    return measure.startswith(BOUNDED)


def best_within(
    table: Table,
    arm: str,
    score: str,
    harm: str | None = None,
    limit: float = math.inf,
    seeds: Sequence[int] | None = None,
) -> Config:
    """The config with the best mean validation score among those whose mean validation harm is at most ``limit``. The
    base is one of them: training may not be worth it."""
    chosen = list(seeds) if seeds is not None else table.seeds(arm)
    best, found = 0.0, Config(BASE, 0.0, 0)
    for config in table.configs(arm):
        gained = float(table.gain(config, score, chosen, "validation").mean())
        harmed = float(table.gain(config, harm, chosen, "validation").mean()) if harm else -math.inf
        if harmed <= limit and gained > best:
            best, found = gained, config
    return found


def equal_score(table: Table, first: str, second: str, score: str) -> float:
    """The score that the weaker of two arms reaches on validation at its best."""
    seeds = table.seeds(first, second)
    best = [best_within(table, arm, score, seeds=seeds) for arm in (first, second)]
    return min(float(table.values(config, score, seeds, "validation").mean()) for config in best)


def least_harm(
    table: Table, arm: str, score: str, harm: str, level: float, seeds: Sequence[int] | None = None
) -> Config | None:
    """The config with the least mean validation harm among those whose mean validation score is at least ``level``
    (a score, not a gain); None if no config has it."""
    chosen = list(seeds) if seeds is not None else table.seeds(arm)
    least, found = float("inf"), None
    for config in table.configs(arm):
        scored = float(table.values(config, score, chosen, "validation").mean())
        harmed = float(table.gain(config, harm, chosen, "validation").mean())
        if scored >= level and harmed < least:
            least, found = harmed, config
    return found


def told(table: Table, config: Config, score: str, harm: str | None, seeds: list[int]) -> Choice:
    """What test clusters say of a config."""
    return Choice(
        config,
        crossed_difference(table.gain(config, score, seeds, "test"), is_bounded(score)),
        crossed_difference(table.gain(config, harm, seeds, "test"), is_bounded(harm)) if harm else None,
    )


def score_within(
    table: Table, first: str, second: str, score: str, harm: str | None = None, limit: float = math.inf
) -> Contest | None:
    """The score of two arms, each at the best config with at most so much harm; None if they share no seed."""
    if not (seeds := table.seeds(first, second)):
        return None
    one, other = (best_within(table, arm, score, harm, limit, seeds) for arm in (first, second))
    return _contest(table, one, other, score, harm, score, limit, seeds)


def harm_at(table: Table, first: str, second: str, score: str, harm: str, level: float) -> Contest | None:
    """The harm of two arms, each at the gentlest config with at least this score; None if one has no such config, or
    they share no seed."""
    if not (seeds := table.seeds(first, second)):
        return None
    one, other = (least_harm(table, arm, score, harm, level, seeds) for arm in (first, second))
    if one is None or other is None:
        return None
    return _contest(table, one, other, score, harm, harm, level, seeds)


def _contest(
    table: Table,
    one: Config,
    other: Config,
    score: str,
    harm: str | None,
    measure: str,
    level: float,
    seeds: list[int],
) -> Contest:
    gain_ST = table.gain(one, measure, seeds, "test") - table.gain(other, measure, seeds, "test")
    return Contest(
        measure,
        level,
        told(table, one, score, harm, seeds),
        told(table, other, score, harm, seeds),
        crossed_difference(gain_ST, is_bounded(measure)),
    )


def adjusted(contests: dict[str, Contest]) -> dict[str, float]:
    """Holm's p-values over a declared family of contests."""
    return holm({name: one.difference.p_value for name, one in contests.items()})
