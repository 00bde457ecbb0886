"""A comparison for the terminal."""

from __future__ import annotations

import json
from pathlib import Path

from pivotrl.cli.fitting_table import new_table, print_table
from pivotrl.cli.tables import out as console
from pivotrl.cli.tables import plain
from pivotrl.comparison.page import LABELS, Comparison, amount, told, told_config


def print_comparison(made: Comparison, directory: Path, as_json: bool) -> None:
    """Each method at its best, then the recommendation and where the page is."""
    if as_json:
        print(json.dumps(made.as_json(), indent=2))
        return
    shown = [measure for measure in (made.score, made.harm) if measure is not None]
    price = made.price_per_hour
    paid = ("rollout turns",) if price is None else ("rollout turns", f"money, at {price:g} an hour")
    table = new_table("method", "rate", "step", "seeds", *paid, *(LABELS[measure] for measure in shown))
    before = [amount(measure, made.before[measure]) for measure in shown]
    table.add_row("before training", "", "", "", *("" for _ in paid), *before)
    for row in made.rows:
        gains = [told(measure, row.gains[measure]) for measure in shown]
        costs = [f"{row.rollout_turns:,.0f}", *([] if price is None else [f"{row.seconds / 3600 * price:,.2f}"])]
        table.add_row(row.title, *told_config(row), str(row.seeds), *costs, *gains)
    print_table(console, table)
    if not made.finished:
        console.print("Not finished: the numbers are those of the trials done so far.")
    if made.advice is not None:
        console.print(plain(made.advice.sentence))
    closing = f"{directory / 'comparison.html'} shows the frontier; `pivotrl view {directory}` the turns that changed."
    console.print(plain(closing), style="dim", soft_wrap=True)
