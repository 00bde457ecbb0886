"""The numbers of a comparison as the pivot browser reads them: every checkpoint with its measures and costs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pivotrl.comparison.checkpoints import place_of, policy_words, title_of
from pivotrl.comparison.choosing import best_within, is_bounded
from pivotrl.comparison.page import LABELS, harm_of, score_of
from pivotrl.comparison.points import BASE
from pivotrl.comparison.table import Config, Table
from pivotrl.evaluation.differences import crossed_difference
from pivotrl.protocols import InputError

BEFORE = Config(BASE, 0.0, 0)


def concluded(directory: Path) -> dict[str, Any]:
    """``comparison.json``; empty while the comparison has not come to a conclusion."""
    return json_file(directory / "comparison.json")


def json_file(path: Path) -> dict[str, Any]:
    """What the file holds; empty if there is none.

    Raises:
        InputError: it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); move it away to see the rest") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is damaged: it holds no JSON object; move it away to see the rest")
    return found


def overview(table: Table, made: dict[str, Any]) -> dict[str, Any]:
    """Levels are means over seeds and test tasks; changes are from before training, with 95 % intervals.

    Args:
        made: from :func:`concluded`; says what counts as the score.
    """
    score, harm = score_of(table, made.get("score")), harm_of(table)
    measures = [score, *([harm] if harm else [])]
    measures += [measure for measure in LABELS if measure in table.measures() and measure not in measures]
    arms = [arm for arm in sorted(table.arms, key=place_of) if table.seeds(arm)]
    rows = [_row(table, BEFORE, -1, table.base_seeds, measures, False)]
    for number, arm in enumerate(arms):
        best, seeds = chosen(table, arm, score), table.seeds(arm)
        rows += [
            _row(table, config, number, seeds, measures, config == best) for config in table.configs(arm) if config.step
        ]
    return {
        "score": score,
        "harm": harm,
        "advice": (made.get("advice") or {}).get("sentence", ""),
        "measures": [{"name": m, "label": LABELS[m], "unit": "share" if is_bounded(m) else "nats"} for m in measures],
        "methods": [title_of(arm) for arm in arms],
        "policies": rows,
    }


def chosen(table: Table, arm: str, score: str) -> Config | None:
    """The checkpoint of an arm that validation chose; None if it chose the policy before training."""
    config = best_within(table, arm, score, seeds=table.seeds(arm))
    return None if config.arm == BASE else config


def _row(
    table: Table, config: Config, method: int, seeds: list[int], measures: list[str], is_best: bool
) -> dict[str, Any]:
    costs = table.costs(config, seeds)
    return {
        "policy": policy_words(config),
        "method": method,
        "rate": config.rate,
        "step": config.step,
        "seeds": len(seeds),
        "rollout_turns": sum(cost.rollout_turns for cost in costs) / len(costs),
        "seconds": round(sum(cost.seconds for cost in costs) / len(costs), 3),
        "values": {measure: _value(table, config, measure, seeds) for measure in measures},
        "best": is_best,
    }


def _value(table: Table, config: Config, measure: str, seeds: list[int]) -> list[float | None]:
    """[level, change, low, high]; None for unknown, such as a change before training."""
    level_ST = table.values(config, measure, seeds, "test")
    if not level_ST.size:
        return [None, None, None, None]
    level = round(float(level_ST.mean()), 6)
    if config == BEFORE:
        return [level, None, None, None]
    made = crossed_difference(table.gain(config, measure, seeds, "test"), is_bounded(measure))
    return [level, *(round(x, 6) if math.isfinite(x) else None for x in (made.mean, made.low, made.high))]
