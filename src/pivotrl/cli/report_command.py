"""The subcommand that writes the report."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tyro

from pivotrl.cli import tables
from pivotrl.cli.bench_table import print_benches
from pivotrl.cli.choices import Price
from pivotrl.cli.live_progress import errors, live_progress
from pivotrl.cli.side_by_side_table import print_summaries
from pivotrl.options import refuse
from pivotrl.protocols import InputError
from pivotrl.protocols.observing import at_work
from pivotrl.report.page import write_report
from pivotrl.report.side_by_side import require_distinct, write_side_by_side
from pivotrl.report.summary import summarise
from pivotrl.runs.directory import require_page_place, require_run_or_bench


def report(
    directories: tyro.conf.Positional[tuple[Path, ...]], price: Price, out: Path | None = None, json: bool = False
) -> None:
    """Write report.html and report.json for a run. For several runs, also write one page that shows them side by side.

    Args:
        directories: A run directory, or several.
        out: The page about several runs; default is side-by-side.html in the current directory.
        json: Print the summary as JSON; a list for several runs.
    """
    if not directories:
        raise InputError("name one run directory, or several to show them side by side")
    if out is not None and len(directories) == 1:
        refuse("out", out, f"is for several runs; the report of one is {directories[0] / 'report.html'}")
    require_page_place(out)
    require_distinct(directories)
    for directory in directories:
        require_run_or_bench(directory)
    for directory in directories:
        with live_progress() as observer, at_work(observer, "writing the report"):
            path = write_report(directory, price.price_per_hour)
        errors.print(f"wrote {tables.plain(str(path))}", soft_wrap=True)
    summaries = [
        dataclasses.replace(summarise(directory), price_per_hour=price.price_per_hour) for directory in directories
    ]
    if len(summaries) == 1:
        tables.print_summary(summaries[0], json)
        if not json:
            print_benches(summaries[0].benches)
        return
    with live_progress() as observer, at_work(observer, "writing the page about all"):
        page = write_side_by_side(directories, out or Path("side-by-side.html"), price.price_per_hour)
    errors.print(f"wrote {tables.plain(str(page))}", soft_wrap=True)
    print_summaries(summaries, json)
