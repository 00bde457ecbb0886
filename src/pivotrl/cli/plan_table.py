"""A plan as tables of at most 80 columns, or as JSON."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from typing import Any

from pivotrl.cli.fitting_table import new_table, print_table
from pivotrl.cli.tables import out, plain
from pivotrl.report.planning.costs import UPDATE_FORWARDS
from pivotrl.report.planning.planned import Bill, Plan
from pivotrl.report.planning.processes import ProcessMemory
from pivotrl.report.planning.projection import Projection, Range
from pivotrl.report.planning.ways import MIN_F1
from pivotrl.stages.planning import Pilot
from pivotrl.storage.record_files import counted

_UNKNOWN = "unknown"
_WIDTH = 80


def plain_json(part: Any) -> Any:
    """A dataclass as JSON; anything else as it is."""
    return dataclasses.asdict(part) if dataclasses.is_dataclass(part) and not isinstance(part, type) else part


def print_plan(plan: Plan, memory: ProcessMemory | None, sampled: Pilot, price_per_hour: float | None) -> None:
    """Print what the pilot found, what each way costs, and the warnings."""
    found = plan.found
    source = ("the profile" if sampled.is_random else "the profile so far") if sampled.is_profile else "a pilot"
    print_text(
        f"from {source}: {found.num_turns:,} of {counted(found.num_candidates, 'candidate turn')}, "
        f"{counted(found.num_tasks, 'task')}, {found.num_samples} samples each"
    )
    _print_found(found)
    if plan.comparison is not None:
        _print_ways(plan, memory)
        _print_notes(plan, sampled, price_per_hour)
    for alarm in plan.alarms:
        print_text(f"warning: {alarm}", "  ")


def _print_found(found: Projection) -> None:
    table = new_table("all candidate turns", "estimate", "95 % interval")
    for outcome, share in found.shares.items():
        if share.mean > 0 or outcome in ("mixed", "always fails", "always passes"):
            table.add_row(outcome, _percent(share.mean), f"{_percent(share.low)} to {_percent(share.high)}")
    table.add_row("pivots", *_cells(found.pivots))
    table.add_row("prompt tokens of the profile, unshared", *_cells(found.unshared_tokens))
    table.add_row("prompt tokens of the profile, computed", *_cells(found.computed_tokens))
    table.add_row("sampled tokens of the profile", *_cells(found.sampled_tokens))
    print_table(out, table)


def _print_ways(plan: Plan, memory: ProcessMemory | None) -> None:
    table = new_table("", *(bill.way.name for bill in plan.bills))
    rows: list[tuple[str, list[str]]] = [
        ("samples, profile", [_short(bill.way.profile_samples) for bill in plan.bills]),
        ("samples, training", [_short(bill.way.training_samples) for bill in plan.bills]),
        ("samples", [_short(bill.way.samples) for bill in plan.bills]),
        ("  95 % from", [_count(bill.way.samples.low) for bill in plan.bills]),
        ("  95 % to", [_count(bill.way.samples.high) for bill in plan.bills]),
        ("prompt tokens", [_short(bill.prompt_tokens) for bill in plan.bills]),
        ("sampled tokens", [_short(bill.sampled_tokens) for bill in plan.bills]),
        ("time, profile", [_time(bill.profile_seconds) for bill in plan.bills]),
        ("time, training", [_time(bill.training_seconds) for bill in plan.bills]),
        *_with_ends("time", plan.bills, "seconds", _duration),
        *_with_ends("money", plan.bills, "money", lambda value: f"{value:,.2f}"),
    ]
    for title, cells in rows:
        if any(cell != _UNKNOWN for cell in cells):
            table.add_row(title, *cells)
    print_table(out, table)
    comparison = plan.comparison
    assert comparison is not None
    training, mixed = plan.training, comparison.mixed_groups
    print_text(
        f"training: {training.num_steps} steps of {training.turns_per_step} turns, {training.group_size} samples each. "
        f"Mixed groups: {_percent(comparison.mixed_at_pivots.mean)} at pivots, "
        f"{_percent(comparison.mixed_anywhere.mean)} at any turn. Each way gives {mixed.mean:,.0f} of them."
    )
    if memory is not None:
        print_text(
            f"memory for tensors in training: about {_bytes(memory.learning)} "
            f"(weights {_bytes(memory.weights + memory.reference)}, gradients and Adam "
            f"{_bytes(memory.gradients + memory.moments)}, "
            f"activations {_bytes(memory.activations)}, work {_bytes(memory.work)})"
        )


def print_text(text: str, indent: str = "") -> None:
    """Print a paragraph of at most 80 columns.

    Args:
        indent: of every line but the first.
    """
    out.print(plain(textwrap.fill(text, min(_WIDTH, out.width), subsequent_indent=indent)), soft_wrap=True)


def _print_notes(plan: Plan, sampled: Pilot, price_per_hour: float | None) -> None:
    notes = [
        f"adaptive: rounds of 4 samples until its pivots agree with those of K = {plan.found.num_samples} "
        f"(F1 {MIN_F1}); lazy: no profile, training looks for mixed groups by itself",
        "pass rates and lengths are those of the policy before training",
    ]
    if plan.speed is None:
        notes.append("times are unknown: the samples were made elsewhere")
    else:
        if plan.speed.per_prompt_token:
            notes.append(f"an update is taken to last as long as {UPDATE_FORWARDS} forwards")
        else:
            notes.append("time goes by sampled tokens, and updates are left out")
        if plan.speed.per_prompt_token and not plan.speed.is_split:
            notes.append("prompts were not timed alone: a prompt token is taken to cost as much as a sampled one")
    if not sampled.is_profile:
        notes.append("`pivotrl profile` takes over the samples of the pilot")
    for note in notes:
        print_text(f"- {note}", "  ")


def _with_ends(title: str, bills: tuple[Bill, ...], name: str, write: Any) -> list[tuple[str, list[str]]]:
    """A row for the estimates, and one for each end of their intervals."""

    def cells(part: str) -> list[str]:
        ranges = [getattr(bill, name) for bill in bills]
        return [_UNKNOWN if one is None else write(getattr(one, part)) for one in ranges]

    return [(title, cells("mean")), ("  95 % from", cells("low")), ("  95 % to", cells("high"))]


def _cells(found: Range | None) -> tuple[str, str]:
    return (_UNKNOWN, "") if found is None else (_count(found.mean), f"{_count(found.low)} to {_count(found.high)}")


def _short(found: Range | None) -> str:
    return _UNKNOWN if found is None else _count(found.mean)


def _time(found: Range | None) -> str:
    return _UNKNOWN if found is None else _duration(found.mean)


def _count(value: float) -> str:
    """Three digits are known at most of a large estimate."""
    if not math.isfinite(value):
        return _UNKNOWN
    if value < 10_000:
        return f"{value:,.0f}"
    digits = 2 - int(math.log10(value))
    return f"{round(value, digits):,.0f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return _UNKNOWN
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def _bytes(number: float) -> str:
    return f"{number / (1 << 30):.1f} GiB" if number >= 1 << 30 else f"{number / (1 << 20):.0f} MiB"
