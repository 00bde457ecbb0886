"""The metrics of a training over its steps: shares, running means and their intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pivotrl.records import StepMetrics

_MAX_ROWS = 100
"""Steps in a table of numbers; metrics.jsonl holds all."""


@dataclass(frozen=True)
class Curve:
    """One line over steps, with its 95 % interval."""

    name: str
    steps: Sequence[int]
    means: Sequence[float]
    lows: Sequence[float]
    highs: Sequence[float]
    raw: Sequence[float] = ()
    """Single values behind the means; drawn faintly."""
    colour: str = "after"
    has_dots: bool = False


def with_shares(row: StepMetrics) -> StepMetrics:
    """The row, with its counts of groups and samples as shares as well."""
    metrics, found = row.metrics, {}
    for name, part, whole in (
        ("groups/signal", "groups/with_signal", "groups/sampled"),
        ("samples/malformed_share", "samples/malformed", "samples/total"),
        ("samples/message_share", "samples/messages", "samples/calls_demonstrated"),
        ("samples/cut_off_share", "samples/cut_off", "samples/total"),
    ):
        if metrics.get(whole) and part in metrics:
            found[name] = metrics[part] / metrics[whole]
    if "groups/signal" in found:
        found["groups/dead"] = 1 - found["groups/signal"]
    return StepMetrics(step=row.step, metrics={**metrics, **found})


def curve_of(metrics: Sequence[StepMetrics], name: str, label: str = "", colour: str = "after") -> Curve | None:
    """One metric with its running mean over a sixth of the steps; None if no step has it.

    The interval is that of the mean: 1.96 standard errors from the scatter of the steps behind it.
    """
    points = [(row.step, row.metrics[name]) for row in metrics if name in row.metrics]
    if not points:
        return None
    steps, values = zip(*points, strict=True)
    width = len(values) // 12
    means, errors = [], []
    for place in range(len(values)):
        window = values[max(0, place - width) : place + width + 1]
        means.append(statistics.fmean(window))
        errors.append(1.96 * statistics.stdev(window) / math.sqrt(len(window)) if len(window) > 1 else 0.0)
    lows = [mean - error for mean, error in zip(means, errors, strict=True)]
    highs = [mean + error for mean, error in zip(means, errors, strict=True)]
    if min(values) >= 0:
        lows = [max(0.0, low) for low in lows]
    return Curve(label, steps, means, lows, highs, values, colour)


def numbers(curve: Curve) -> list[tuple[str, ...]]:
    """Rows (step, value, running mean, interval), at most a hundred of them and always the last."""
    every = math.ceil(len(curve.steps) / _MAX_ROWS)
    places = [place for place in range(len(curve.steps)) if place % every == 0 or place == len(curve.steps) - 1]
    return [
        (
            str(curve.steps[place]),
            f"{curve.raw[place]:.4g}",
            f"{curve.means[place]:.4g}",
            f"{short(curve.lows[place])} to {short(curve.highs[place])}",
        )
        for place in places
    ]


def quarters(metrics: Sequence[StepMetrics], name: str) -> tuple[list[float], list[float]]:
    """The values of a metric in the first and in the last quarter of the steps; empty for fewer than 8 values."""
    values = [row.metrics[name] for row in metrics if name in row.metrics]
    size = len(values) // 4
    return (values[:size], values[-size:]) if size >= 2 else ([], [])


def short(value: float) -> str:
    """In two digits; one where it is small."""
    return f"{value:.2g}" if abs(value) >= 0.01 else f"{value:.1g}"
