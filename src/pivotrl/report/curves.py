"""The training curves of the report: the metrics of every step, with a running mean and its interval."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pivotrl.records import StepMetrics
from pivotrl.report.drawing import Plot
from pivotrl.report.plots import curve_plot
from pivotrl.report.steps import curve_of, numbers

PANELS = (
    ("reward/mean", "Mean reward at pivots", 1.0, "Fresh samples at each step. It should rise."),
    (
        "reward/group_variance",
        "Reward variance within a group",
        None,
        "What the policy can learn from. At 0 all samples of a turn get the same reward.",
    ),
    ("groups/dead", "Dead groups", 1.0, "Share of groups whose samples all get the same reward; they teach nothing."),
    ("loss/kl", "KL to the reference policy", None, "Nats per token, at pivots: how far the policy has moved."),
    ("policy/entropy", "Entropy", None, "Nats per token. Near 0 the policy no longer explores."),
    ("samples/mean_tokens", "Tokens per action", None, "A jump or a collapse can mean the verifier is being gamed."),
    ("samples/malformed_share", "Malformed actions", 1.0, "Share of samples that could not be parsed. It should fall."),
    ("samples/cut_off_share", "Cut-off actions", 1.0, "Share of samples that reached the limit of tokens."),
    ("policy/sampler_gap", "Sampler gap", None, "Nats per token between sampler and trainer; 0 is exact."),
    ("policy/sampler_gap_max", "Largest sampler gap", None, "Nats, of the one token where both differ most."),
    ("importance/capped_fraction", "Capped importance weights", 1.0, "Share of tokens whose weight is the cap."),
    ("samples/mean_lag", "Lag of the samples", None, "Updates that the weights which drew them were behind."),
    ("gradient/norm", "Gradient norm", None, "Before clipping."),
    ("loss/total", "Loss", None, "Cross-entropy of the demonstrated actions, nats per token. It should fall."),
)
"""(metric, title, end of the axis, how to read it)."""


def panels(metrics: Sequence[StepMetrics], shows_loss: bool) -> list[Plot]:
    """Small multiples over the steps, one for each metric that the run has.

    Args:
        metrics: with shares.
        shows_loss: whether the loss says something about progress, as it does when imitating.
    """
    found = []
    for name, title, top, words in PANELS:
        curve = curve_of(metrics, name)
        if curve is not None and (shows_loss or name != "loss/total"):
            svg = curve_plot([curve], top)
            found.append(Plot(title, svg, words, ("step", "value", "running mean", "95 % interval"), numbers(curve)))
    return found


def overlaid(runs: Sequence[tuple[str, str, Sequence[StepMetrics]]], shows_loss: bool) -> list[Plot]:
    """The same metrics of several runs, one line for each run; only those that two runs have.

    Args:
        runs: (name, colour, metrics with shares).
        shows_loss: as in :func:`panels`.
    """
    found = []
    for name, title, top, words in PANELS:
        curves = [c for label, colour, metrics in runs if (c := curve_of(metrics, name, label, colour)) is not None]
        if len(curves) > 1 and (shows_loss or name != "loss/total"):
            svg = curve_plot([dataclasses.replace(curve, raw=()) for curve in curves], top, labels=False)
            rows = [(curve.name, *row) for curve in curves for row in numbers(curve)]
            heads = ("run", "step", "value", "running mean", "95 % interval")
            found.append(Plot(title, svg, words, heads, rows))
    return found
