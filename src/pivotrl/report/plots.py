"""The kinds of plots in the report: numbers in, SVG out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from pivotrl.report.drawing import COLOURS, svg
from pivotrl.report.steps import Curve, short

_GAP = 0.83
"""Where a bar that is cut off has its gap, as a share of the frame."""


@dataclass(frozen=True)
class Mark:
    """One dot with its interval and label."""

    mean: float
    low: float
    high: float
    text: str
    colour: str = "after"
    is_open: bool = False


def interval_plot(
    rows: Sequence[tuple[str, Sequence[Mark]]],
    limits: tuple[float, float],
    unit: str,
    scale: float = 1,
    zero: bool = False,
) -> Markup:
    """Dots with intervals, one labelled row per measurement; ``zero`` draws a line at no change."""
    heights = [0.95 + 0.66 * len(marks) for _, marks in rows]
    total = sum(heights)
    height = 22 * total + 34

    def draw(figure: Any) -> None:
        axes = figure.add_axes((0.02, 32 / height, 0.68, 22 * total / height))
        axes.set(xlim=[scale * limit for limit in limits], ylim=(total, 0), yticks=[], xlabel=unit)
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="x")
        beside = axes.get_yaxis_transform()
        if zero:
            axes.axvline(0, color=COLOURS["muted"], linewidth=1)
        top = 0.0
        for (label, marks), space in zip(rows, heights, strict=True):
            axes.text(0, top + 0.55, label, transform=beside, va="center")
            for number, mark in enumerate(marks):
                y, colour = top + 1.15 + 0.66 * number, COLOURS[mark.colour]
                axes.plot([scale * mark.low, scale * mark.high], [y, y], color=colour, linewidth=2)
                fill = COLOURS["paper"] if mark.is_open else colour
                dot = {"markersize": 6.5, "color": fill, "markeredgecolor": colour, "markeredgewidth": 1.8}
                axes.plot([scale * mark.mean], [y], "o", **dot)
                axes.text(1.03, y, mark.text, color=colour, transform=beside, va="center")
            top += space

    return svg(draw, 370, height)


def curve_plot(curves: Sequence[Curve], top: float | None = None, labels: bool = True) -> Markup:
    """Lines over steps with their intervals.

    Args:
        top: the end of the axis, where it is known.
        labels: write the last value beside each line.
    """
    last = max(curve.steps[-1] for curve in curves)
    first = min(curve.steps[0] for curve in curves)
    shown = [value for curve in curves for side in (curve.raw, curve.means, curve.lows, curve.highs) for value in side]

    def draw(figure: Any) -> None:
        axes = figure.add_axes((0.12, 0.2, 0.74, 0.72))
        high = top or 1.12 * max(0.0, *shown) or 1.0
        axes.set(xlim=(first, max(last, first + 1)), ylim=(min(0.0, *shown), high))
        axes.set_xticks(sorted({first, last}))
        axes.locator_params(axis="y", nbins=4)
        axes.grid(axis="y")
        beside = axes.get_yaxis_transform()
        for curve in curves:
            colour = COLOURS[curve.colour]
            if curve.raw:
                axes.plot(curve.steps, curve.raw, color=colour, linewidth=0.7, alpha=0.35)
            axes.fill_between(curve.steps, curve.lows, curve.highs, color=colour, alpha=0.15, linewidth=0)
            style = {"marker": "o", "markersize": 4} if curve.has_dots else {}
            axes.plot(curve.steps, curve.means, color=colour, linewidth=1.8, **style)
            axes.plot(curve.steps[-1:], curve.means[-1:], "o", markersize=4.5, color=colour, clip_on=False)
            if labels:
                axes.text(1.04, curve.means[-1], short(curve.means[-1]), color=colour, transform=beside, va="center")

    return svg(draw, 280, 130)


@dataclass(frozen=True)
class Bar:
    """Turns of about the same mean reward."""

    left: float
    right: float
    """Where the bar is drawn; the first and the last one stand outside 0 to 1."""
    told: str
    """The mean rewards in it."""
    chosen: int
    left_out: int
    is_exact: bool
    """Whether all its turns have the same mean reward, that of its middle."""

    @property
    def middle(self) -> float:
        return (self.left + self.right) / 2

    @property
    def total(self) -> int:
        return self.chosen + self.left_out


def bars(turns: Sequence[tuple[float, bool]], num_samples: int) -> list[Bar]:
    """Turns (mean reward, chosen) as bars: those that always fail, those between, those that always pass.

    A bar for each k of K passed where rewards are 0 or 1 and K is at most 20; else twenty of equal width.
    """
    on_grid = sum(abs(mean * num_samples - round(mean * num_samples)) < 1e-6 for mean, _ in turns)
    is_counted = 2 <= num_samples <= 20 and 2 * on_grid > len(turns)
    num_inner = num_samples - 1 if is_counted else 20
    counts = [[0, 0] for _ in range(num_inner + 2)]
    for mean, chosen in turns:
        inner = round(mean * num_samples) if is_counted else int(mean * num_inner + 1e-9) + 1
        place = 0 if mean == 0 else num_inner + 1 if mean == 1 else min(max(inner, 1), num_inner)
        counts[place][chosen] += 1
    width = 1 / (num_inner + 1) if is_counted else 1 / num_inner
    found = []
    for place, (num_left_out, num_chosen) in enumerate(counts):
        centre = place * width if is_counted else (place - 0.5) * width
        between = f"{centre - width / 2:.2f} to {centre + width / 2:.2f}"
        inside = f"{place} of {num_samples} pass" if is_counted else between
        told = "always fail" if place == 0 else "always pass" if place == num_inner + 1 else inside
        found.append(Bar(centre - 0.4 * width, centre + 0.4 * width, told, num_chosen, num_left_out, is_counted))
    return found


def histogram(columns: Sequence[Bar], band: tuple[float, float] | None) -> Markup:
    """Bars with their counts. The outer bars are cut if they dwarf the rest. The ``band`` is shaded; its ends lie in
    the gaps between bars, where a bar stands for one mean reward."""
    width = columns[1].left - columns[0].left
    totals = [column.total for column in columns]
    inner = max(totals[1:-1])
    limit = 1.25 * (2 * inner if max(totals) > 3 * inner > 0 else max(totals))

    def draw(figure: Any) -> None:
        axes = figure.add_axes((0.1, 0.26, 0.89, 0.72))
        left, right = columns[0].left - 0.2 * width, columns[-1].right + 0.2 * width
        axes.set(xlim=(left, right), ylim=(0, limit))
        axes.set_xlabel("mean reward of the reference policy at a turn")
        axes.set_xticks([columns[0].middle, 0.2, 0.4, 0.6, 0.8, columns[-1].middle])
        axes.set_xticklabels(["0\nalways fail", "0.2", "0.4", "0.6", "0.8", "1\nalways pass"])
        for label, side in zip((axes.get_xticklabels()[0], axes.get_xticklabels()[-1]), ("left", "right"), strict=True):
            label.set_horizontalalignment(side)
        axes.locator_params(axis="y", nbins=4, integer=True)
        axes.grid(axis="y")
        if band is not None:
            axes.axvspan(*_between_bars(columns, band), color=COLOURS["after"], alpha=0.1, linewidth=0)
        for column in columns:
            centre, total = column.middle, column.total
            scale = min(1.0, 0.88 * limit / total) if total else 1.0  # a bar that is cut keeps its proportions
            chosen, left_out = scale * column.chosen, scale * column.left_out
            axes.bar(centre, chosen, 0.8 * width, color=COLOURS["after"])
            axes.bar(centre, left_out, 0.8 * width, bottom=chosen, color=COLOURS["before"])
            if scale < 1:  # a gap shows that the bar continues
                ends = [column.left - 0.01 * width, column.right + 0.01 * width]
                axes.plot(ends, [(_GAP - 0.06) * limit, (_GAP - 0.03) * limit], color=COLOURS["paper"], linewidth=4)
            if total:
                size = 9 if len(columns) <= 12 else 7
                axes.text(centre, scale * total + 0.02 * limit, _count(total, len(columns)), ha="center", fontsize=size)

    return svg(draw, 370, 190)


def _between_bars(columns: Sequence[Bar], band: tuple[float, float]) -> tuple[float, float]:
    low, high = band
    if not columns[0].is_exact:
        return band
    gap = (columns[1].left - columns[0].right) / 2
    inside = [column for column in columns if low <= column.middle < high]
    return (inside[0].left - gap, inside[-1].right + gap) if inside else band


def _count(number: int, num_bars: int) -> str:
    """As it fits above a bar: 950, 1,200, 12k."""
    if number < 1_000 or (number < 10_000 and num_bars <= 12):
        return f"{number:,}"
    return f"{number / 1000:.1f}k" if number < 10_000 else f"{number / 1000:.0f}k"
