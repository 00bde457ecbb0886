"""Several runs in the terminal: what each measured after training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pivotrl.cli.fitting_table import new_table, print_table
from pivotrl.cli.tables import out, plain
from pivotrl.report.sentences import amount, signed
from pivotrl.report.summary import Summary


def print_summaries(summaries: Sequence[Summary], as_json: bool) -> None:
    """Print a line for each run and measurement, or the summaries as a JSON list."""
    if as_json:
        print(json.dumps([summary.as_json() for summary in summaries], indent=2, default=str))
        return
    table = new_table("run", "measured", "before", "after", "change [95 %]")
    for summary in summaries:
        name = Path(summary.directory).resolve().name
        told = plain(name if summary.complete else f"{name} (not complete)")
        for c in (c for c in summary.comparisons if not c.is_detail):
            d, unit = c.difference, c.unit
            change = f"{signed(d.difference, unit)} [{signed(d.low, unit)}, {signed(d.high, unit)}]"
            table.add_row(told, c.name, amount(d.mean_before, unit), amount(d.mean_after, unit), change)
            told = ""
        if not summary.comparisons:
            table.add_row(told, "nothing yet", "", "", "")
    print_table(out, table)
    out.print("Each run is one training: a difference between runs may be the luck of training.")
