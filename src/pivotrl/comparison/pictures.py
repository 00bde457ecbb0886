"""Pictures of a comparison as SVG: the frontier of score against forgetting, and the curve of score over cost. The same
numbers give the same bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from pivotrl.comparison.points import BASE
from pivotrl.comparison.reaching import COSTS
from pivotrl.comparison.table import Config, Table

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b7178", "#000000")
"""Of Okabe and Ito, told apart by everyone."""
_MARKS = "osD^vP*X"
_LINEAR = 0.01
"""Below it the axis of forgetting is linear, beyond it logarithmic."""
_TICKS = (-0.01, 0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pivotrl",
    "text.parse_math": False,
    "font.size": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
}


def frontier(table: Table, titles: dict[str, str], score: str, harm: str, labels: tuple[str, str]) -> str:
    """Every config of every arm as a point, mean over seeds and test clusters; the upper envelope of each arm as a
    line.

    Args:
        titles: arm -> name in the legend; other arms are left out.
        labels: of the axes, (harm, score).
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 3.8))
        axes = figure.subplots()
        for place, (arm, title) in enumerate(titles.items()):
            seeds = table.seeds(arm)
            if not seeds:
                continue
            points = sorted(
                (
                    float(table.gain(config, harm, seeds, "test").mean()),
                    float(table.values(config, score, seeds, "test").mean()),
                )
                for config in table.configs(arm)
            )
            colour, mark = _COLOURS[place % len(_COLOURS)], _MARKS[place % len(_MARKS)]
            x, y = zip(*points, strict=True)
            axes.plot(x, y, mark, color=colour, markersize=3, alpha=0.45, markeredgewidth=0)
            axes.plot(*zip(*_envelope(points), strict=True), color=colour, linewidth=1.4, label=title)
        base = float(table.values(None, score, table.base_seeds, "test").mean())
        axes.axhline(base, color="#6b7178", linewidth=0.8, linestyle=":", label="before training")
        axes.set_xscale("symlog", linthresh=_LINEAR)
        shown = [value for value in _TICKS if value <= axes.get_xlim()[1]]
        axes.set_xticks(shown, [f"{value:g}" for value in shown])
        axes.set_xticks([], minor=True)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.legend(frameon=False, fontsize=8)
        return _svg(figure)


def _envelope(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points that no other beats in score with less harm, from the least harm on."""
    kept, best = [], -math.inf
    for x, y in points:
        if y > best:
            kept.append((x, y))
            best = y
    return kept


def curves(table: Table, rates: dict[str, float], titles: dict[str, str], measure: str, cost: str, label: str) -> str:
    """Mean test score of each arm over its cost, at one rate each, with a band of the standard error over seeds."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 3.8))
        axes = figure.subplots()
        for place, (arm, rate) in enumerate(rates.items()):
            points = curve_points(table, arm, rate, measure, cost)
            if not points:
                continue  # this arm's cost is not counted
            x_C, mean_C, error_C = np.array([(point.cost, point.score, point.error) for point in points]).T
            colour = _COLOURS[place % len(_COLOURS)]
            axes.plot(x_C, mean_C, color=colour, marker=_MARKS[place % len(_MARKS)], markersize=3, label=titles[arm])
            axes.fill_between(x_C, mean_C - error_C, mean_C + error_C, color=colour, alpha=0.15, linewidth=0)
        axes.set_xlabel(cost)
        axes.set_ylabel(label)
        axes.legend(frameon=False, fontsize=8)
        return _svg(figure)


class Point(NamedTuple):
    """A checkpoint of an arm on the curve of score over cost."""

    step: int
    cost: float
    score: float
    error: float
    """Standard error over seeds; 0 with one seed."""


def curve_points(table: Table, arm: str, rate: float, measure: str, cost: str) -> list[Point]:
    """The checkpoints of an arm at one rate, from before training on; empty if its cost is not counted."""
    seeds = table.seeds(arm)
    configs = [config for config in table.configs(arm) if config.rate == rate]
    known = [[COSTS[cost](one) for one in table.costs(config, seeds)] for config in configs]
    paid = [[value for value in row if value is not None] for row in known]
    if not all(paid):
        return []
    if configs[0].step > 0:
        configs, paid = [Config(BASE, 0.0, 0), *configs], [[0.0], *paid]
    found = []
    for config, row in zip(configs, paid, strict=True):
        means_S = table.values(config, measure, seeds, "test").mean(axis=1)
        error = float(means_S.std(ddof=1)) / math.sqrt(len(seeds)) if len(seeds) > 1 else 0.0
        found.append(Point(config.step, float(np.mean(row)), float(means_S.mean()), error))
    return found


def frontier_points(
    table: Table, titles: dict[str, str], score: str, harm: str
) -> list[tuple[str, Config, float, float]]:
    """(title, config, change of harm, score) of every point of the frontier, mean over seeds and test clusters."""
    return [
        (
            title,
            config,
            float(table.gain(config, harm, seeds, "test").mean()),
            float(table.values(config, score, seeds, "test").mean()),
        )
        for arm, title in titles.items()
        if (seeds := table.seeds(arm))
        for config in table.configs(arm)
    ]


def _svg(figure: Any) -> str:
    figure.tight_layout()
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"
