"""The large plots of one run, each with its caption and its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pivotrl.intervals import Estimate, PairedDifference
from pivotrl.records import Manifest, Selection
from pivotrl.report.drawing import Plot
from pivotrl.report.evaluations import Score
from pivotrl.report.plots import Mark, bars, curve_plot, histogram, interval_plot
from pivotrl.report.sentences import amount, interval, plain, signed
from pivotrl.report.steps import Curve
from pivotrl.report.summary import Breakdown, Comparison, Summary

_MAX_LABEL = 48
_MAX_DETAILS = 24
_BEFORE_AFTER = ("measurement", "before", "95 % interval", "after", "95 % interval")
_CHANGE = ("measurement", "change", "95 % interval")


def figures(
    summary: Summary,
    breakdowns: Sequence[Breakdown],
    selections: Sequence[Selection],
    manifests: Mapping[str, Manifest],
) -> dict[str, Plot]:
    """The large plots by name; plots without data are omitted."""
    found = {}
    shares = [c for c in summary.comparisons if c.unit.startswith("share") and not c.is_detail]
    if shares:
        rows = [(capital(c.name), c.before, c.after) for c in shares]
        for row in breakdowns:
            if row.before and row.after:
                rows.append((f"Episodes, {row.tag} {row.value}", row.before, row.after))
        found["levels"] = _levels(rows)
        found["changes"] = _changes(shares, "Paired change with its 95 % interval; right of the line is better. An "
                                    "interval that crosses 0 shows no difference.")  # fmt: skip
    for c in (c for c in summary.comparisons if c.name == "retention"):
        found["retention"] = _retention(c)
    outside = [c for c in summary.comparisons if c.unit.startswith("share") and c.is_detail]
    if len(outside) > 1:
        found["outside"] = _changes(
            outside[:_MAX_DETAILS],
            "Change on questions outside the task, with 95 % intervals; left of the line is forgetting.",
        )
    scored = [(row.reward_mean, row.selected) for row in selections if row.reward_mean is not None]
    if scored:
        num_samples = max(row.num_scored for row in selections)
        found["profile"] = _profile(scored, num_samples, manifests.get("select"))
    return found


def _levels(rows: Sequence[tuple[str, Any, Any]]) -> Plot:
    marks = [
        (
            shortened(name),
            [
                Mark(before.mean, before.low, before.high, f"before {amount(before.mean, 'share')}", "before", True),
                Mark(after.mean, after.low, after.high, f"after {amount(after.mean, 'share')}"),
            ],
        )
        for name, before, after in rows
    ]
    numbers = [(plain(name), *_told(before, "share"), *_told(after, "share")) for name, before, after in rows]
    words = "Before (open dots) and after (filled dots), with 95 % intervals; further right is better."
    return Plot("", interval_plot(marks, (0.0, 1.0), "%", scale=100), words, _BEFORE_AFTER, numbers)


def _changes(shares: Sequence[Comparison], words: str) -> Plot:
    marks, numbers = [], []
    for c in shares:
        d, name = c.difference, capital(c.name.removeprefix("answers, "))
        marks.append((shortened(name), [Mark(d.difference, d.low, d.high, signed(d.difference, c.unit))]))
        numbers.append(
            (plain(name), signed(d.difference, c.unit), f"{signed(d.low, c.unit)} to {signed(d.high, c.unit)}")
        )
    reach = 1.1 * max(abs(end) for c in shares for end in (c.difference.low, c.difference.high)) or 0.1
    svg = interval_plot(marks, (-reach, reach), "points", scale=100, zero=True)
    return Plot("", svg, words, _CHANGE, numbers)


def _retention(c: Comparison) -> Plot:
    ends = [end for estimate in (c.before, c.after) for end in (estimate.low, estimate.high)]
    room = 0.1 * (max(ends) - min(ends)) or 0.1
    marks = [
        Mark(c.before.mean, c.before.low, c.before.high, f"before {amount(c.before.mean, c.unit)}", "before", True),
        Mark(c.after.mean, c.after.low, c.after.high, f"after {amount(c.after.mean, c.unit)}"),
    ]
    svg = interval_plot([("Reference texts", marks)], (min(ends) - room, max(ends) + room), "nats per token")
    words = (
        "Negative log-likelihood of reference answers outside the task; further right is worse and means forgetting."
    )
    numbers = [("Reference texts", *_told(c.before, c.unit), *_told(c.after, c.unit))]
    return Plot("", svg, words, _BEFORE_AFTER, numbers)


def _profile(scored: Sequence[tuple[float, bool]], num_samples: int, chooser: Manifest | None) -> Plot:
    columns = bars(scored, num_samples)
    options = chooser.options if chooser else {}
    rule, most = str(options.get("rule")), float(options.get("max_mean", 1.0))
    band = {"mixed": (0.5 / num_samples, most), "mean_only": (-0.5 / num_samples, most + 1e-9)}.get(rule)
    words = (
        "Turns by mean reward, their number above each bar; an outer bar with a gap is longer than drawn. Turns at "
        "the ends teach nothing; the rule chooses among those between."
    )
    numbers = [(bar.told, f"{bar.chosen:,}", f"{bar.left_out:,}") for bar in columns if bar.total]
    return Plot("", histogram(columns, band), words, ("mean reward", "pivots", "left out"), numbers)


def checkpoint_panels(summary: Summary) -> list[Plot]:
    """Small multiples over the steps of a training: each score of its checkpoints, from before training on."""
    points: dict[tuple[str, str], list[tuple[int, Estimate, str]]] = {}
    first = [one for one in summary.evaluations if one.stage == "evaluations/before"]
    measured = [one for one in summary.evaluations if one.step is not None and one.training is not None]
    for training in dict.fromkeys(str(one.training) for one in measured):
        mine = [(one.step or 0, one) for one in (*first, *measured) if one in first or one.training == training]
        for step, one in sorted(mine, key=lambda pair: pair[0]):
            for score in one.scores:
                points.setdefault((training, score.told), []).append((step, score.estimate, score.unit))
    found = []
    for (training, told), values in points.items():
        if len(values) > 2:
            steps, estimates = [step for step, _, _ in values], [estimate for _, estimate, _ in values]
            curve = Curve(
                told, steps, [e.mean for e in estimates], [e.low for e in estimates], [e.high for e in estimates],
                has_dots=True,
            )  # fmt: skip
            words = f"Checkpoints of {plain(training)} by step, measured on held-out items, with 95 % intervals."
            numbers = [(str(step), *_told(estimate, unit)) for step, estimate, unit in values]
            found.append(Plot(capital(told), curve_plot([curve]), words, ("step", "score", "95 % interval"), numbers))
    return found


def scores_of_runs(told: str, rows: Sequence[tuple[str, str, Score, PairedDifference | None]]) -> Plot:
    """One measurement of several runs.

    Args:
        rows: (run, colour, score after training, difference from the first run).
    """
    unit = rows[0][2].unit
    is_share = unit.startswith("share")
    marks, numbers = [], []
    for name, colour, score, since_first in rows:
        after, change = score.estimate, score.difference
        mark = Mark(after.mean, after.low, after.high, amount(after.mean, unit), colour)
        before = [Mark(change.mean_before, change.mean_before, change.mean_before, "", colour, True)] if change else []
        marks.append((shortened(name), [*before, mark]))
        numbers.append((name, *_told(after, unit), _difference(change, unit), _difference(since_first, unit)))
    ends = [end for _, _, score, _ in rows for end in (score.estimate.low, score.estimate.high)]
    room = 0.1 * (max(ends) - min(ends)) or 0.1
    limits = (0.0, 1.0) if is_share else (min(ends) - room, max(ends) + room)
    svg = interval_plot(marks, limits, "%" if is_share else "nats per token", scale=100 if is_share else 1)
    better = "right" if rows[0][2].higher_is_better else "left"
    words = f"After training, with 95 % intervals; open dots are before training. Further {better} is better."
    heads = ("run", "after", "95 % interval", "change since before training", "difference from the first run")
    return Plot(capital(told), svg, words, heads, numbers)


def _difference(d: PairedDifference | None, unit: str) -> str:
    return "" if d is None else f"{signed(d.difference, unit)} [{signed(d.low, unit)}, {signed(d.high, unit)}]"


def _told(estimate: Estimate, unit: str) -> tuple[str, str]:
    return amount(estimate.mean, unit), interval(estimate, unit)


def capital(text: str) -> str:
    """With a capital first letter; the T of a temperature stays."""
    return text[:1].upper() + text[1:]


def shortened(label: str) -> str:
    label = plain(label)
    return label if len(label) <= _MAX_LABEL else label[: _MAX_LABEL - 1] + "…"
