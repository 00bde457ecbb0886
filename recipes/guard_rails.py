"""Tries the guard rails on trainings that were made without them: which would have ended early, and why.

    python recipes/guard_rails.py runs/evidence runs/quickstart

Each folder is searched for ``metrics.jsonl``. Trainings that sample nothing are not counted: they have none of the
watched metrics. The committed numbers are in recipes/results/guard_rails.json.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from pivotrl.protocols import Collapsed, Notice
from pivotrl.records import StepMetrics
from pivotrl.storage.record_files import RecordFile, write_file
from pivotrl.training_options.guard_rails import GuardRail, GuardRails

RESULTS = Path(__file__).parent / "results" / "guard_rails.json"
GUARD_STEPS = (5, 8, 10, 15)


def ended(rows: Sequence[StepMetrics], guard_steps: int) -> str | None:
    """What the training would have ended with, and after how many of its steps; None if it would not have."""
    rail = GuardRail(GuardRails(guard_steps=guard_steps), None)
    for number, row in enumerate(rows, start=1):
        try:
            rail.look(row.metrics)
        except Collapsed as error:
            return f"after {number} of {len(rows)} steps: {str(error).partition(':')[0]}"
    return None


def main(folders: Sequence[str]) -> None:
    """Prints and stores the trainings that would have ended, for several ``guard_steps``."""
    found: dict[str, list[StepMetrics]] = {}
    for folder in map(Path, folders):
        for path in sorted(folder.rglob("metrics.jsonl")):
            rows = list(RecordFile(path, StepMetrics))
            if any("samples/total" in row.metrics for row in rows):
                found[str(path.parent.relative_to(folder.parent))] = rows
    told = {}
    for steps in GUARD_STEPS:
        stopped = {place: reason for place, rows in found.items() if (reason := ended(rows, steps))}
        told[f"guard_steps {steps}"] = stopped
        print(f"guard_steps {steps}: {len(stopped)} of {len(found)} trainings end early")
        for place, reason in stopped.items():
            print(f"  {place}: {reason}")
    about = {"trainings": len(found), "steps": sum(map(len, found.values())), "ended": told}
    write_file(RESULTS, json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore", Notice)
    main(sys.argv[1:])
