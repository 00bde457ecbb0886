"""The score at equal forgetting, and the forgetting at equal score.

An arm has many configs (rate, checkpoint). Validation clusters, averaged over seeds, choose one for each level of
forgetting; test clusters, which had no say, give its score. So the best of many is never reported as such.
"""

from __future__ import annotations

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
    harm: Difference


@dataclass(frozen=True)
class Contest:
    """Two arms at one level: what test says of the difference ``first - second``."""

    question: str
    """``score``: at most this much harm. ``harm``: at least this much score."""
    level: float
    first: Choice
    second: Choice
    difference: Difference


def is_bounded(measure: str) -> bool:
    return measure.startswith(BOUNDED)


def best_within(
    table: Table, arm: str, score: str, harm: str, limit: float, seeds: Sequence[int] | None = None
) -> Config:
    """The config with the best mean validation score among those whose mean validation harm is at most ``limit``. The
    base is one of them: training may not be worth it."""
    chosen = list(seeds) if seeds is not None else table.seeds(arm)
    best, found = 0.0, Config(BASE, 0.0, 0)
    for config in table.configs(arm):
        gained = float(table.gain(config, score, chosen, "validation").mean())
        harmed = float(table.gain(config, harm, chosen, "validation").mean())
        if harmed <= limit and gained > best:
            best, found = gained, config
    return found


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


def told(table: Table, config: Config, score: str, harm: str, seeds: list[int]) -> Choice:
    """What test clusters say of a config."""
    return Choice(
        config,
        crossed_difference(table.gain(config, score, seeds, "test"), is_bounded(score)),
        crossed_difference(table.gain(config, harm, seeds, "test"), is_bounded(harm)),
    )


def contest(
    table: Table, first: str, second: str, score: str, harm: str, question: str, level: float
) -> Contest | None:
    """Two arms at one level of harm or score; None if one of them has no config there."""
    seeds = table.seeds(first, second)
    if not seeds:
        return None
    choose = best_within if question == "score" else least_harm
    one, other = (choose(table, arm, score, harm, level, seeds) for arm in (first, second))
    if one is None or other is None:
        return None
    measure = score if question == "score" else harm
    gain_ST = table.gain(one, measure, seeds, "test") - table.gain(other, measure, seeds, "test")
    return Contest(
        question,
        level,
        told(table, one, score, harm, seeds),
        told(table, other, score, harm, seeds),
        crossed_difference(gain_ST, is_bounded(measure)),
    )


def adjusted(contests: dict[str, Contest]) -> dict[str, float]:
    """Holm's p-values over a declared family of contests."""
    return holm({name: one.difference.p_value for name, one in contests.items()})
