"""Tries the guard rails on trainings that were made without them: which would have ended early, and why.

    python recipes/guard_rails.py runs/evidence runs/quickstart

Each folder is searched for ``metrics.jsonl``. Trainings that sample nothing are not counted: they have none of the
watched metrics. Then trainings are simulated whose entropy, signal and KL are beyond their limits from the first steps
on, so that only the reward decides: how many end although they gain, and how many whose reward falls. The committed
numbers are in recipes/results/guard_rails.json.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from pivotrl.protocols import Collapsed, Notice
from pivotrl.records import StepMetrics
from pivotrl.storage.record_files import RecordFile, write_file
from pivotrl.training_options.gain import FALSE_ALARMS
from pivotrl.training_options.guard_rails import GuardRail, GuardRails, stopped_by

RESULTS = Path(__file__).parent / "results" / "guard_rails.json"
GUARD_STEPS = (5, 8, 10, 15)
NUM_STEPS, NUM_RUNS, GROUP_SIZE = 100, 200, 8
TURNS_PER_STEP, STARTS, CHANGES = (4, 16, 64), (0.1, 0.5, 0.9), (0.02, 0.0, -0.1, -0.3)


def ended(rows: Sequence[Mapping[str, float]], guard_steps: int = 10) -> tuple[int, str] | None:
    """After how many steps the training would have ended, and with what; None if it would not have."""
    rail = GuardRail(GuardRails(guard_steps=guard_steps), None)
    for number, row in enumerate(rows, start=1):
        try:
            rail.look(row)
        except Collapsed as error:
            return number, str(error).partition(":")[0]
    return None


def simulated_end(rows: Sequence[Mapping[str, float]]) -> int | None:
    """After how many steps a simulated training would have ended: its rails look at every tenth step from the 20th."""
    options = {**dataclasses.asdict(GuardRails()), "num_steps": len(rows) + 1}
    return next((end for end in range(20, len(rows) + 1, 10) if stopped_by(options, rows[:end])), None)


def ended_by_means(rows: Sequence[Mapping[str, float]], guard_steps: int = 10) -> bool:
    """Whether the former rule would have ended it: the mean of ten steps is no higher than that of the first ten."""
    rewards = [row["reward/mean"] for row in rows]
    start = statistics.fmean(rewards[:guard_steps])
    ends = range(2 * guard_steps, len(rows) + 1)
    return any(statistics.fmean(rewards[end - guard_steps : end]) <= start for end in ends)


def simulated(
    turns_per_step: int, start: float, change: float, num_runs: int = NUM_RUNS
) -> Iterator[list[dict[str, float]]]:
    """Metrics of trainings whose mean reward changes after the first ten steps, once and for good. Turns differ: their
    pass rates have a beta distribution around the mean."""
    generator = np.random.default_rng(0)
    for _ in range(num_runs):
        rows = []
        for step in range(NUM_STEPS):
            is_early = step < 10
            mean = start if is_early else start + change
            rates_B = generator.beta(2 * mean, 2 * (1 - mean), turns_per_step)
            signal = float(turns_per_step if is_early else 0)
            rows.append(
                {
                    "reward/mean": float((generator.binomial(GROUP_SIZE, rates_B) / GROUP_SIZE).mean()),
                    "groups/with_verdict": float(turns_per_step),
                    "groups/with_signal": signal,
                    "policy/entropy": 1.0 if is_early else 0.01,
                    "loss/kl": 0.0 if is_early else 5.0,
                }
            )
        yield rows


def simulation() -> list[dict[str, float]]:
    """The share of simulated trainings that end, for each size of a step, reward at the start and change."""
    found = []
    for turns in TURNS_PER_STEP:
        for start in STARTS:
            for change in CHANGES:
                if not 0 < start + change < 1:
                    continue
                runs = list(simulated(turns, start, change))
                ends = [end for rows in runs if (end := simulated_end(rows))]
                found.append(
                    {
                        "turns_per_step": turns,
                        "reward_at_start": start,
                        "change": change,
                        "ended": len(ends) / len(runs),
                        "median_step": statistics.median(ends) if ends else None,
                        "ended_by_comparing_means": statistics.fmean(map(ended_by_means, runs)),
                    }
                )
                print(*found[-1].items())
    return found


def main(folders: Sequence[str]) -> None:
    """Prints and stores the trainings that would have ended, for several ``guard_steps``, and the simulation."""
    found: dict[str, list[Mapping[str, float]]] = {}
    for folder in map(Path, folders):
        for path in sorted(folder.rglob("metrics.jsonl")):
            rows = [row.metrics for row in RecordFile(path, StepMetrics)]
            if any("samples/total" in row for row in rows):
                found[str(path.parent.relative_to(folder.parent))] = rows
    told = {}
    for steps in GUARD_STEPS:
        stopped = {place: end for place, rows in found.items() if (end := ended(rows, steps))}
        told[f"guard_steps {steps}"] = {
            place: f"after {number} of {len(found[place])} steps: {reason}"
            for place, (number, reason) in stopped.items()
        }
        print(f"guard_steps {steps}: {len(stopped)} of {len(found)} trainings end early")
        for place, reason in told[f"guard_steps {steps}"].items():
            print(f"  {place}: {reason}")
    about = {"trainings": len(found), "steps": sum(map(len, found.values())), "ended": told}
    simulations = {"steps": NUM_STEPS, "runs_each": NUM_RUNS, "group_size": GROUP_SIZE, "promised": FALSE_ALARMS}
    about["simulated"] = {**simulations, "cases": simulation()}
    write_file(RESULTS, json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore", Notice)
    main(sys.argv[1:])
