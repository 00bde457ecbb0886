"""Prints the result of `pivotrl doctor`: the sandbox's identity, faults in ordinary behaviour, and attack outcomes."""

from __future__ import annotations

import dataclasses
import json

from pivotrl.cli.fitting_table import new_table, print_table
from pivotrl.cli.tables import out, plain
from pivotrl.protocols.observing import Observer
from pivotrl.sandbox.doctor import SandboxRecord, examine_sandbox

_OUTCOMES = ("blocked", "breach", "not_controlled")


def examine(backend: str, require_cgroup: bool, observer: Observer) -> SandboxRecord:
    """:func:`pivotrl.sandbox.doctor.examine_sandbox` with a progress bar."""
    done = 0

    def attacked(_: object, total: int) -> None:
        nonlocal done
        done += 1
        observer.progress("attacks on the sandbox", done, total)

    return examine_sandbox(backend, require_cgroup=require_cgroup, progress=attacked)


def print_sandbox(found: SandboxRecord, as_json: bool) -> bool:
    """Print the record as tables or as JSON. Returns whether the sandbox holds."""
    if as_json:
        print(json.dumps({**dataclasses.asdict(found), "is_sound": found.is_sound}, indent=2))
        return found.is_sound
    for name, value in found.identity.items():
        out.print(f"{plain(name)}: {plain(str(value))}")
    table = new_table("attacks", *(outcome.replace("_", " ") for outcome in _OUTCOMES))
    for category, counts in found.counts.items():
        table.add_row(plain(category), *(str(counts.get(outcome, 0)) for outcome in _OUTCOMES))
    print_table(out, table)
    faults = [check for check in found.checks if check.fault]
    out.print(f"{len(found.checks) - len(faults)} of {len(found.checks)} checks of ordinary behaviour pass")
    for check in faults:
        out.print(f"fault: {plain(check.name)}: {plain(check.fault or '')}")
    for breach in found.breaches:
        out.print(f"breach: {plain(breach.category)} / {plain(breach.name)}: {plain(breach.detail)}")
    out.print("the sandbox holds" if found.is_sound else "[bold red]the sandbox does not hold; do not use it[/]")
    return found.is_sound
