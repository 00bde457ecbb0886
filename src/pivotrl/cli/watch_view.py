"""What `pivotrl watch` shows: the stages, the latest metrics as small curves, and notices."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pivotrl.cli.live_progress import duration
from pivotrl.report.following import RunNow, StageNow
from pivotrl.report.sentences import plain
from pivotrl.report.steps import short

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 24
_METRICS = (
    ("reward/mean", "mean reward"),
    ("reward/group_variance", "variance in a group"),
    ("groups/dead", "dead groups"),
    ("loss/kl", "KL, nats per token"),
    ("policy/entropy", "entropy, nats per token"),
    ("samples/mean_tokens", "tokens per action"),
    ("samples/malformed_share", "malformed"),
    ("loss/total", "loss"),
)
_STYLES = {"done": "green", "running": "bold cyan", "stopped": "yellow", "damaged": "bold red", "not begun": "dim"}


class Shown(NamedTuple):
    """How a run is shown."""

    now: RunNow
    price_per_hour: float | None = None

    def money(self, seconds: float) -> str:
        return "" if self.price_per_hour is None else f"{seconds / 3600 * self.price_per_hour:,.2f}"


def page(shown: Shown) -> RenderableType:
    """Everything, to be refreshed in place. It fits into 80 columns."""
    now = shown.now
    parts: list[RenderableType] = [_stages(shown)]
    if metrics := _metrics(now):
        parts += [Text(), metrics]
    for notice in now.notices:
        parts.append(Text(f"! {plain(notice)}", "yellow"))
    return Group(*parts)


def line(shown: Shown) -> str:
    """The stage that is running, or the last one, in one line."""
    now = shown.now
    begun = [stage for stage in now.stages if stage.state != "not begun"]
    if not begun:
        return f"{now.directory}: nothing has begun"
    stage = now.running or begun[-1]
    words = [f"{stage.stage} {stage.state}" if stage.state != "running" else stage.stage]
    if stage.done:
        words.append(f"{_done(stage)} {stage.unit}")
    words.append(f"{now.total('rollout_turns'):,.0f} rollout turns")
    words.append(f"{now.total('tokens'):,.0f} tokens")
    words.append(duration(now.total("seconds")))
    if money := shown.money(now.total("seconds")):
        words.append(f"money {money}")
    if stage.seconds_left is not None:
        words.append(f"about {duration(stage.seconds_left)} left")
    if now.metrics and stage.unit == "steps":
        last = now.metrics[-1].metrics
        words += [f"{name} {short(last[key])}" for key, name in _METRICS[:3] if key in last]
    return " · ".join(words)


def ending(now: RunNow) -> str:
    """What became of a run that no process works on any more; "" while it may go on."""
    if now.is_complete and now.running is None:
        return f"complete; `pivotrl report {now.directory}` writes the report"
    if damaged := [stage.stage for stage in now.stages if stage.state == "damaged"]:
        return (
            f"{', '.join(damaged)} damaged, and no process works on the run; `pivotrl status {now.directory}` says more"
        )
    stopped = [stage.stage for stage in now.stages if stage.state == "stopped"]
    if stopped:
        return f"{', '.join(stopped)} stopped before the end; `pivotrl status {now.directory}` says how to continue"
    return f"the process has ended; `pivotrl status {now.directory}` says what is next"


def sparkline(values: Sequence[float], width: int = _WIDTH) -> str:
    """The values as bars between their least and their greatest; the mean of several where there are more than
    ``width``."""
    if not values:
        return ""
    num = min(width, len(values))
    edges = [place * len(values) // num for place in range(num + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    span = (high - low) or 1.0
    return "".join(_BARS[min(7, int(8 * (mean - low) / span))] for mean in means)


def _stages(shown: Shown) -> Table:
    now = shown.now
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    has_money = shown.price_per_hour is not None
    table.add_column("stage")
    for name in ("done", "rollout turns", "tokens", "time", "left", *(["money"] if has_money else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for stage in now.stages:
        begun = stage.state not in ("not begun", "damaged")
        cells = [
            _progress(stage) if begun else stage.state,
            f"{stage.rollout_turns:,}" if stage.rollout_turns else "",
            f"{stage.tokens:,}" if stage.tokens else "",
            duration(stage.seconds) if begun else "",
            "" if stage.seconds_left is None else duration(stage.seconds_left),
            *([shown.money(stage.seconds) if begun else ""] if has_money else []),
        ]
        name = f"> {stage.stage}" if stage.state == "running" else stage.stage
        table.add_row(plain(name), *cells, style=_STYLES[stage.state])
    seconds = now.total("seconds")
    totals = [
        f"{now.total('rollout_turns'):,.0f}",
        f"{now.total('tokens'):,.0f}",
        duration(seconds) if seconds else "",
        "",
    ]
    table.add_row("total", "", *totals, *([shown.money(seconds)] if has_money else []))
    return table


def _progress(stage: StageNow) -> str:
    told = f"{_done(stage)} {stage.unit}" if stage.done else ""
    if stage.state == "done":
        return told or "done"
    return f"{stage.state} {told}".rstrip() if stage.state == "stopped" or not told else told


def _done(stage: StageNow) -> str:
    return f"{stage.done:,}" if stage.total in (None, stage.done) else f"{stage.done:,}/{stage.total:,}"


def _metrics(now: RunNow) -> Table | None:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(f"step {now.metrics[-1].step}" if now.metrics else "")
    table.add_column("now", justify="right")
    table.add_column("from the first step to now")
    table.add_column("least", justify="right")
    table.add_column("most", justify="right")
    for key, words in _METRICS:
        values = [row.metrics[key] for row in now.metrics if key in row.metrics]
        if values and (key != "loss/total" or table.row_count == 0):
            table.add_row(words, short(values[-1]), sparkline(values), short(min(values)), short(max(values)))
    return table if table.row_count else None
