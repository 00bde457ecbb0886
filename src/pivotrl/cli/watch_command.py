"""The subcommand that watches a run from another terminal."""

from __future__ import annotations

import json as json_module
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.live import Live

from pivotrl.cli import tables
from pivotrl.cli.choices import Price
from pivotrl.cli.live_progress import errors
from pivotrl.cli.watch_view import Shown, ending, line, page
from pivotrl.options import Positive, check
from pivotrl.protocols import InputError
from pivotrl.report.following import Follower, RunNow
from pivotrl.runs.manifest import manifest_path


@dataclass(frozen=True)
class Refreshing:
    """How often the run is looked at."""

    every_seconds: Positive | None = None
    """Seconds between looks; default is 2 in a terminal and 30 elsewhere, where each look is a line."""
    once: bool = False
    """Look once and end."""

    def __post_init__(self) -> None:
        check(self)


def watch(directory: tyro.conf.Positional[Path], refreshing: Refreshing, price: Price, json: bool = False) -> None:
    """Watch a run that another process is making: stages, time left, cost and the latest metrics. Changes nothing.

    Ends when the run is complete, or when its process has ended; the exit code is then 1 if a stage is unfinished. A
    stage with a damaged file is named with the file and its fault, the others are watched on, and the exit code is 1.

    Args:
        directory: A run directory, even before the run begins.
        json: Print one JSON object per look instead.
    """
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} is not a directory; give a run directory")
    if not manifest_path(directory, "read").is_file():
        is_there = "holds no run yet" if directory.exists() else "does not exist yet"
        told_next = "" if refreshing.once else "; waiting for a run to begin there"
        errors.print(tables.plain(f"{directory} {is_there}{told_next}"), soft_wrap=True)
    follower = Follower(directory)
    if json:
        _repeat(follower, refreshing, 30.0, lambda now: print(json_module.dumps(now.as_json()), flush=True), True)
        return

    def told(now: RunNow) -> None:
        tables.out.print(tables.plain(line(Shown(now, price.price_per_hour))), soft_wrap=True)

    def whole(now: RunNow) -> None:
        tables.out.print(page(Shown(now, price.price_per_hour)))

    if refreshing.once:
        _repeat(follower, refreshing, 0.0, whole)
    elif not tables.out.is_terminal:
        _repeat(follower, refreshing, 30.0, told, tells_faults=True)
    else:
        _watch_live(follower, refreshing, price.price_per_hour, tables.out)


def _watch_live(follower: Follower, refreshing: Refreshing, price_per_hour: float | None, console: Console) -> None:
    with Live(console=console, auto_refresh=False) as live:
        _repeat(follower, refreshing, 2.0, lambda now: live.update(page(Shown(now, price_per_hour)), refresh=True))


def _repeat(
    follower: Follower,
    refreshing: Refreshing,
    usual: float,
    show: Callable[[RunNow], None],
    tells_faults: bool = False,
) -> None:
    """Look and show, until the run is complete or the process that worked on it has ended.

    Args:
        tells_faults: whether to tell of damaged files on stderr, since ``show`` does not.
    """
    seen_working, num_idle, told = False, 0, set[str]()
    try:
        while True:
            now = follower.look()
            show(now)
            faults = {stage.fault for stage in now.stages if stage.fault}
            for fault in sorted(faults - told) if tells_faults else ():
                errors.print(f"[bold yellow]pivotrl:[/] {tables.plain(fault)}", soft_wrap=True)
            told |= faults
            seen_working = seen_working or now.is_held
            num_idle = 0 if now.is_held else num_idle + 1
            if refreshing.once:
                if faults:
                    raise SystemExit(1)
                return
            if (now.is_complete and not now.is_held) or ((seen_working or faults) and num_idle > 1):
                errors.print(tables.plain(ending(now)), soft_wrap=True)
                if any(stage.state in ("stopped", "damaged") for stage in now.stages):
                    raise SystemExit(1)
                return
            time.sleep(refreshing.every_seconds or usual)
    except KeyboardInterrupt:  # ends the watching, not the run
        return
