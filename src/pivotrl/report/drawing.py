"""SVG for the report's pages: matplotlib draws, CSS variables colour. The same numbers give the same bytes.

Colours are drawn as fixed values and then replaced by CSS variables, so a page sets them for light, dark and print.
Text stays text, in the page's font. Labels come from logs: they are never interpreted as mathematics or markup.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.style
from markupsafe import Markup
from matplotlib.figure import Figure

COLOURS = {
    "ink": "#1d2023",
    "muted": "#5b6168",
    "rule": "#d5d7d9",
    "before": "#6b7178",
    "after": "#0072b2",
    "paper": "#fffffe",
    "run0": "#0072b1",
    "run1": "#d55e00",
    "run2": "#009e73",
    "run3": "#b65a93",
    "run4": "#b07800",
    "run5": "#56a5d9",
    "run6": "#6a7179",
    "run7": "#7a4b2a",
}
"""CSS variable -> the value it replaces; no two values are equal."""

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pivotrl",
    "text.parse_math": False,
    "text.usetex": False,
    "font.size": 10,
    "text.color": COLOURS["ink"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.labelsize": 9.5,
    "axes.edgecolor": COLOURS["rule"],
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "xtick.color": COLOURS["rule"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["muted"],
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "ytick.major.size": 0,
    "grid.color": COLOURS["rule"],
    "grid.linewidth": 0.6,
    "lines.solid_capstyle": "butt",
}


@dataclass(frozen=True)
class Plot:
    """A picture, how to read it, and its numbers."""

    title: str
    """"" where the text around it says what it is."""
    svg: Markup
    words: str
    """How to read it."""
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    """Its numbers, as text; the first cell names the row."""


def svg(draw: Callable[[Any], None], width: float, height: float) -> Markup:
    """What ``draw`` draws into a matplotlib figure of this size, in points."""
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
    for name, value in COLOURS.items():
        body = body.replace(value, f"var(--{name})")
    opening = f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" aria-hidden="true">'
    return Markup(opening + body)  # noqa: S704 (our own drawing; matplotlib escapes the labels)
