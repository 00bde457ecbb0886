"""Where the agent wavers, as tables or JSON; and the list of profiled turns in an order of choice."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from pivotrl.cli.fitting_table import new_table, print_table
from pivotrl.cli.tables import out, plain
from pivotrl.intervals import Estimate
from pivotrl.protocols import InputError
from pivotrl.report.wavering import Failure, Order, Part, in_order, turn_outcomes, wavering
from pivotrl.runs.files import RunFiles
from pivotrl.storage.record_files import counted

_NUM_FAILURES = 10
_WIDTH = 60


def print_wavering(directory: Path, as_json: bool) -> None:
    """Raises:
    InputError: there is no profile, or a file is damaged.
    """
    found = wavering(turn_outcomes(RunFiles(directory)))
    if as_json:
        print(json.dumps(found.as_json(), indent=2))
        return
    _print_parts("tool", found.by_tool, found.total)
    _print_parts("depth", found.by_depth, None)
    if not found.by_reason:
        out.print("every sample passed")
        return
    _print_failures("reason", found.by_reason, len(found.by_reason))
    if found.by_wrong_action:
        _print_failures("wrong action", found.by_wrong_action, found.num_wrong_actions)
    out.print("A turn wavers if some of its samples pass and some fail. Intervals: 95 %, clustered by task.")


def _print_parts(title: str, parts: Sequence[Part], total: Part | None) -> None:
    table = new_table(title, "turns", "waver [95 %]", "pass rate [95 %]", "variance")
    for part in [*parts, *([total] if total else [])]:
        scored = f" ({part.num_scored_turns:,} judged)" if part.num_scored_turns < part.num_turns else ""
        variance = "" if part.variance is None else f"{part.variance:.3f}"
        table.add_row(
            plain(part.name), f"{part.num_turns:,}{scored}", _share(part.wavering), _share(part.pass_rate), variance
        )
    print_table(out, table)


def _print_failures(title: str, failures: Sequence[Failure], number: int) -> None:
    shown = failures[:_NUM_FAILURES]
    table = new_table(title, "samples", "turns", "share of turns [95 %]", "most at")
    for failure in shown:
        table.add_row(
            plain(_short(failure.name)),
            f"{failure.num_samples:,}",
            f"{failure.num_turns:,}",
            _share(failure.share),
            plain(failure.example),
        )
    print_table(out, table)
    if number > len(shown):
        out.print(f"and {counted(number - len(shown), title)} more; --json lists {len(failures):,}")


def print_turns(directory: Path, order: Order | None, every: bool, selection: str | None, as_json: bool) -> None:
    """List profiled turns: the pivots of a selection, or all.

    Raises:
        InputError: the profile or the selection is missing, or a file is damaged.
    """
    files = RunFiles(directory)
    if every and selection is not None:
        raise InputError("--all lists every profiled turn, --selection the pivots of one selection; leave one out")
    outcomes = turn_outcomes(files)
    chosen = {row.turn_id for row in files.selected(selection) if row.selected}
    if not every:
        if not chosen:
            files.selections(selection)  # says what is missing
            raise InputError(f"{directory} has no pivots; --all lists every profiled turn")
        outcomes = [outcome for outcome in outcomes if outcome.turn_id in chosen]
    if order is not None:
        outcomes = in_order(outcomes, order)
    if as_json:
        print(json.dumps([{**dataclasses.asdict(o), "selected": o.turn_id in chosen} for o in outcomes], indent=2))
        return
    table = new_table("turn" if every else "pivot", "tool", "depth", "pass rate", "variance", "samples", "first reason")
    for outcome in outcomes:
        rate, variance = ("" if value is None else f"{value:.3f}" for value in (outcome.pass_rate, outcome.variance))
        reason = max(outcome.reasons, key=lambda name: outcome.reasons[name], default="")
        cells = (
            outcome.turn_id,
            _short(outcome.tool),
            str(outcome.depth),
            rate,
            variance,
            str(outcome.num_scored),
            reason,
        )
        table.add_row(*map(plain, cells))
    print_table(out, table)


def _share(estimate: Estimate | None) -> str:
    if estimate is None:
        return "no verdict"
    return f"{100 * estimate.mean:.1f} % [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]}..."
