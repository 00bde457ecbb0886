"""The numbers of a benchmark for the terminal."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from pivotrl.cli.fitting_table import new_table, print_table
from pivotrl.cli.tables import change_words, interval_words, out, plain
from pivotrl.report.benches import Bench, benches_of
from pivotrl.report.summary import read_manifests
from pivotrl.runs.files import RunFiles

_UNIT = "share"


def print_bench(directory: Path, name: str, as_json: bool) -> None:
    """Print what each player reached at a benchmark, the difference, and the cost."""
    (found,) = (one for one in benches_of(RunFiles(directory), read_manifests(directory)) if one.name == name)
    if as_json:
        print(json.dumps(dataclasses.asdict(found), indent=2))
        return
    print_benches([found])
    out.print(f"files: {plain(str(directory / 'bench' / name))}", soft_wrap=True)


def print_benches(benches: Sequence[Bench]) -> None:
    """Print a table for each benchmark."""
    for one in benches:
        table = new_table(
            f"{plain(one.harness)}, {plain(one.package)}",
            "score [95 %]",
            "since before [95 %]",
            "trials",
            "no verdict",
            "turns",
            "tokens",
            "seconds",
        )
        for player in one.players:
            told = player.name if player.finished else f"{player.name} (unfinished)"
            left_out = ", ".join(f"{count} {reason}" for reason, count in player.no_verdict.items())
            difference = player.difference
            table.add_row(
                plain(told),
                interval_words(player.score, _UNIT) if player.score else "",
                change_words(difference, _UNIT) if difference else plain(player.otherwise),
                f"{player.num_trials:,} of {player.num_tasks:,} tasks",
                plain(f"{left_out}; at least {100 * player.lowest:.1f} %") if left_out else "0",
                _number(player.num_turns),
                _number(player.num_tokens),
                _number(player.seconds),
            )
        print_table(out, table)
    if benches:
        out.print(
            "Score: mean reward of the trials with a verdict; intervals: 95 %, clustered by task. Turns, sampled "
            "tokens and seconds: means of a trial."
        )


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.1f}"
