"""The plots of the report: numbers in, inline SVG out. The same numbers give the same bytes.

Colours are drawn as fixed values and then replaced by CSS variables, so the page sets them for light, dark and print.
Text stays text, in the page's font. Labels come from logs: they are never interpreted as mathematics or markup.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.style
from markupsafe import Markup
from matplotlib.figure import Figure

from pivotrl.records import Manifest, Selection, StepMetrics
from pivotrl.report.sentences import amount, plain, signed
from pivotrl.report.summary import Breakdown, Summary

_COLOURS = {
    "ink": "#1d2023",
    "muted": "#5b6168",
    "rule": "#d5d7d9",
    "before": "#6b7178",
    "after": "#0072b2",
    "paper": "#fffffe",
}
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pivotrl",
    "text.parse_math": False,
    "text.usetex": False,
    "font.size": 10,
    "text.color": _COLOURS["ink"],
    "axes.labelcolor": _COLOURS["muted"],
    "axes.labelsize": 9.5,
    "axes.edgecolor": _COLOURS["rule"],
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "xtick.color": _COLOURS["rule"],
    "xtick.labelcolor": _COLOURS["muted"],
    "ytick.labelcolor": _COLOURS["muted"],
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "ytick.major.size": 0,
    "grid.color": _COLOURS["rule"],
    "grid.linewidth": 0.6,
    "lines.solid_capstyle": "butt",
}

_MAX_LABEL = 48
_PANELS = (
    ("reward/mean", "Mean reward at pivots", 1.0, "Fresh samples at each step."),
    (
        "reward/group_variance",
        "Reward variance within a group",
        None,
        "At 0 all samples of a turn get the same reward.",
    ),
    ("groups/signal", "Share of groups with signal", 1.0, "Groups whose rewards differ; only these teach."),
    ("policy/entropy", "Entropy", None, "Nats per token. Near 0 the policy no longer explores."),
    ("policy/sampler_gap", "Sampler gap", None, "Nats per token between sampler and trainer; 0 is exact."),
    ("gradient/norm", "Gradient norm", None, "Before clipping."),
    ("loss/total", "Loss", None, "Cross-entropy of the demonstrated actions, nats per token."),
    ("loss/kl", "KL to the reference policy", None, "Nats per token, at pivots."),
    ("samples/mean_tokens", "Tokens per action", None, "A jump or a collapse can mean the verifier is being gamed."),
    ("samples/malformed_share", "Malformed actions", 1.0, "Share of malformed samples."),
)


@dataclass(frozen=True)
class Mark:
    """One dot with its interval and label."""

    mean: float
    low: float
    high: float
    text: str
    colour: str = "after"


def figures(
    summary: Summary,
    breakdowns: Sequence[Breakdown],
    selections: Sequence[Selection],
    manifests: Mapping[str, Manifest],
) -> dict[str, Markup]:
    """The large plots by name; plots without data are omitted."""

    def sides(row: Any, unit: str) -> list[Mark]:
        pair = (("before", row.before), ("after", row.after))
        return [Mark(e.mean, e.low, e.high, f"{name} {amount(e.mean, unit)}", name) for name, e in pair]

    found = {}
    shares = [c for c in summary.comparisons if c.unit.startswith("share") and not c.is_detail]
    if shares:
        rows = [(_capital(c.name), sides(c, c.unit)) for c in shares]
        rows += [(_short(plain(f"Episodes, {row.tag} {row.value}")), sides(row, "share")) for row in breakdowns]
        found["levels"] = interval_plot(rows, (0.0, 1.0), "%", scale=100)
        changes = [(_capital(c.name), c.difference, c.unit) for c in shares]
        marks = [(name, [Mark(d.difference, d.low, d.high, signed(d.difference, unit))]) for name, d, unit in changes]
        reach = 1.1 * max(abs(end) for _, d, _ in changes for end in (d.low, d.high))
        found["changes"] = interval_plot(marks, (-reach, reach), "points", scale=100, zero=True)
    for c in (c for c in summary.comparisons if c.name == "retention"):
        ends = [end for estimate in (c.before, c.after) for end in (estimate.low, estimate.high)]
        room = 0.1 * (max(ends) - min(ends)) or 0.1
        rows = [("Reference texts", sides(c, c.unit))]
        found["retention"] = interval_plot(rows, (min(ends) - room, max(ends) + room), "nats per token")
    scored = [(row.reward_mean, row.selected) for row in selections if row.reward_mean is not None]
    if scored:
        num_samples = max(row.num_scored for row in selections)
        options = manifests["select"].options if "select" in manifests else {}
        low = {"mixed": 0.5 / num_samples, "mean_only": -0.5 / num_samples}.get(str(options.get("rule")))
        band = None if low is None else (low, float(options.get("max_mean", 1.0)))
        found["profile"] = mean_reward_histogram(scored, num_samples, band)
    return found


def panels(metrics: Sequence[StepMetrics], shows_loss: bool) -> list[dict[str, Any]]:
    """Small multiples over the steps, one per metric that the run has.

    Args:
        shows_loss: whether the loss says something about progress, as it does when imitating.
    """
    found = []
    for name, title, top, words in _PANELS:
        points = [(row.step, row.metrics[name]) for row in metrics if name in row.metrics]
        if points and (shows_loss or name != "loss/total"):
            found.append({"title": title, "words": words, "svg": step_plot(points, top)})
    return found


def _capital(text: str) -> str:
    """With a capital first letter; the T of a temperature stays."""
    return text[:1].upper() + text[1:]


def checkpoint_panels(summary: Summary) -> list[dict[str, Any]]:
    """Small multiples over the steps of a training: each score of its checkpoints, from before training on."""
    points: dict[tuple[str, str], list[tuple[int, float]]] = {}
    first = [one for one in summary.evaluations if one.stage == "evaluations/before"]
    measured = [one for one in summary.evaluations if one.step is not None and one.training is not None]
    for training in dict.fromkeys(str(one.training) for one in measured):
        mine = [(one.step or 0, one) for one in (*first, *measured) if one in first or one.training == training]
        for step, one in sorted(mine, key=lambda pair: pair[0]):
            for score in one.scores:
                points.setdefault((training, score.told), []).append((step, score.estimate.mean))
    return [
        {"title": _capital(told), "words": f"checkpoints of {training}, by step", "svg": step_plot(values)}
        for (training, told), values in points.items()
        if len(values) > 2
    ]


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
        axes = figure.add_axes((0.02, 32 / height, 0.7, 22 * total / height))
        axes.set(xlim=[scale * limit for limit in limits], ylim=(total, 0), yticks=[], xlabel=unit)
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="x")
        beside = axes.get_yaxis_transform()
        if zero:
            axes.axvline(0, color=_COLOURS["muted"], linewidth=1)
        top = 0.0
        for (label, marks), space in zip(rows, heights, strict=True):
            axes.text(0, top + 0.55, label, transform=beside, va="center")
            for number, mark in enumerate(marks):
                y, colour = top + 1.15 + 0.66 * number, _COLOURS[mark.colour]
                axes.plot([scale * mark.low, scale * mark.high], [y, y], color=colour, linewidth=2)
                fill = _COLOURS["paper"] if mark.colour == "before" else colour
                dot = {"markersize": 6.5, "color": fill, "markeredgecolor": colour, "markeredgewidth": 1.8}
                axes.plot([scale * mark.mean], [y], "o", **dot)
                axes.text(1.03, y, mark.text, color=colour, transform=beside, va="center")
            top += space

    return _svg(draw, 400, height)


def step_plot(points: Sequence[tuple[int, float]], top: float | None = None) -> Markup:
    """A metric over steps: faint raw values, and a strong running mean with its last value in figures."""
    steps, values = [step for step, _ in points], [value for _, value in points]
    width = len(values) // 12
    windows = [values[max(0, i - width) : i + width + 1] for i in range(len(values))]
    smooth = [sum(window) / len(window) for window in windows]

    def draw(figure: Any) -> None:
        axes = figure.add_axes((0.12, 0.2, 0.74, 0.72))
        high = top or 1.12 * max(0.0, *values) or 1.0
        axes.set(xlim=(steps[0], max(steps[-1], steps[0] + 1)), ylim=(min(0.0, *values), high))
        axes.set_xticks(sorted({steps[0], steps[-1]}))
        axes.locator_params(axis="y", nbins=4)
        axes.grid(axis="y")
        axes.plot(steps, values, color=_COLOURS["after"], linewidth=0.8, alpha=0.4)
        axes.plot(steps, smooth, color=_COLOURS["after"], linewidth=1.8)
        axes.plot(steps[-1:], smooth[-1:], "o", markersize=4.5, color=_COLOURS["after"], clip_on=False)
        beside = axes.get_yaxis_transform()
        last = f"{smooth[-1]:.2g}" if abs(smooth[-1]) >= 0.01 else f"{smooth[-1]:.1g}"
        axes.text(1.04, smooth[-1], last, color=_COLOURS["after"], transform=beside, va="center")

    return _svg(draw, 280, 130)


def mean_reward_histogram(
    turns: Sequence[tuple[float, bool]], num_samples: int, band: tuple[float, float] | None
) -> Markup:
    """Turns (mean reward, chosen) by their mean reward. The outer bars are cut if they dwarf the rest."""
    on_grid = sum(abs(mean * num_samples - round(mean * num_samples)) < 1e-6 for mean, _ in turns)
    bins = max(num_samples, 2) if num_samples <= 20 and 2 * on_grid > len(turns) else 20  # a bar for each k of K passed
    counts = [[0] * (bins + 1), [0] * (bins + 1)]
    for mean, chosen in turns:
        # The outer bars hold only turns that always fail or always pass.
        place = 0 if mean == 0 else bins if mean == 1 else min(max(round(mean * bins), 1), bins - 1)
        counts[chosen][place] += 1
    totals = [left_out + chosen for left_out, chosen in zip(*counts, strict=True)]
    inner = max(totals[1:-1])
    limit = 1.3 * (2 * inner if max(totals) > 3 * inner > 0 else max(totals))

    def draw(figure: Any) -> None:
        axes = figure.add_axes((0.085, 0.2, 0.905, 0.78))
        places = [index / bins for index in range(bins + 1)]
        axes.set(xlim=(-0.6 / bins, 1 + 0.6 / bins), ylim=(0, limit))
        axes.set_xlabel("mean reward of the reference policy at a turn")
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
        axes.locator_params(axis="y", nbins=4, integer=True)
        axes.grid(axis="y")
        if band is not None:
            axes.axvspan(*band, color=_COLOURS["after"], alpha=0.1, linewidth=0)
        axes.bar(places, counts[1], 0.8 / bins, color=_COLOURS["after"])
        axes.bar(places, counts[0], 0.8 / bins, bottom=counts[1], color=_COLOURS["before"])
        for place, name, side in ((0, "always fail", "left"), (bins, "always pass", "right")):
            edge = places[place] + (-0.4 if place == 0 else 0.4) / bins
            if totals[place] > limit:  # a gap shows that the bar continues
                ends = [places[place] - 0.41 / bins, places[place] + 0.41 / bins]
                axes.plot(ends, [0.8 * limit, 0.83 * limit], color=_COLOURS["paper"], linewidth=4)
            if totals[place]:
                height = min(totals[place], limit)
                if height > 0.9 * limit:  # beside the bar: there is no room above it
                    edge, height = places[place] + (0.5 if place == 0 else -0.5) / bins, 0.9 * limit
                axes.text(edge, height + 0.02 * limit, f"{totals[place]:,} {name}", ha=side, color=_COLOURS["ink"])

    return _svg(draw, 440, 180)


def _short(label: str) -> str:
    return label if len(label) <= _MAX_LABEL else label[: _MAX_LABEL - 1] + "…"


def _svg(draw: Callable[[Any], None], width: float, height: float) -> Markup:
    with matplotlib.style.context(_STYLE, after_reset=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the page's font draws it, not ours
        figure = Figure(figsize=(width / 72, height / 72))
        draw(figure)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)  # would hold for the whole page
    body = re.sub(r"<g id=\"[^\"]*\"", "<g", body)  # nothing points to these, and they repeat from plot to plot
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body).replace("xlink:href", "href")
    for name, value in _COLOURS.items():
        body = body.replace(value, f"var(--{name})")
    opening = f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" aria-hidden="true">'
    return Markup(opening + body)  # noqa: S704 (our own drawing; matplotlib escapes the labels)
