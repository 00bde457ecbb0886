"""How well a pilot would have foretold a finished profile: draw many pilots from it and count the intervals that hold.

    python recipes/pilots.py runs/quickstart --sizes 30 60 --draws 1000 --name "the quickstart's profile"

Prints the table and writes it into recipes/results/pilots.json, which docs/planning.md shows. Nothing is sampled.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

from pivotrl.cli import guarded
from pivotrl.report.planning.pilot import pilot_turns
from pivotrl.report.planning.planned import candidates_of
from pivotrl.report.planning.projection import project
from pivotrl.selection import SelectionOptions
from pivotrl.stages.planning import in_pilot_order, profile_as_pilot
from pivotrl.storage.record_files import timestamp, write_file
from pivotrl.training_options import TrainingOptions

RESULTS = Path(__file__).parent / "results" / "pilots.json"
MEASURES = {"pivots": "pivots", "sampled_tokens": "sampled tokens"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run whose profile is finished and has K samples at every turn")
    parser.add_argument("--sizes", type=int, nargs="+", default=[30, 60], help="turns of a pilot")
    parser.add_argument("--draws", type=int, default=1000, help="pilots of each size, with the seeds 0, 1, ...")
    parser.add_argument("--name", help="what the table calls the profile")
    arguments = parser.parse_args()
    profile = profile_as_pilot(arguments.run)
    if profile is None or not profile.is_random:
        parser.error(f"{arguments.run} has no finished profile")
    found = pilot_turns(profile.asked, profile.groups, SelectionOptions.max_mean)
    rows = dict(zip([turn.id for turn in profile.asked], found, strict=True))
    candidates = candidates_of(
        profile.candidates,
        profile.profiling.batch_turns,
        TrainingOptions.turns_per_step,
        TrainingOptions.turns_per_trajectory,
    )
    whole = project(found, candidates, profile.profiling.num_samples)
    held = {size: dict.fromkeys(MEASURES, 0) for size in arguments.sizes}
    for size, counts in held.items():
        for seed in range(arguments.draws):
            drawn = [rows[turn.id] for turn in in_pilot_order(profile.candidates, seed)[:size]]
            told = project(drawn, candidates, profile.profiling.num_samples)
            for measure in MEASURES:
                interval, right = getattr(told, measure), getattr(whole, measure).mean
                counts[measure] += interval.low <= right * (1 + 1e-9) and right * (1 - 1e-9) <= interval.high
    name = arguments.name or arguments.run.name
    entry = {
        "turns": len(found),
        "tasks": whole.num_tasks,
        "draws": arguments.draws,
        "held": {str(size): counts for size, counts in held.items()},
        "command": f"python recipes/pilots.py {arguments.run} --sizes {' '.join(map(str, arguments.sizes))}",
        "date": timestamp()[:10],
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, no GPU",
    }
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    write_file(RESULTS, (json.dumps(known | {name: entry}, indent=1) + "\n").encode())
    print(table())


def table() -> str:
    """Markdown: a row for each profile and size of a pilot."""
    known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    lines = [
        f"| profile | turns, tasks | pilot | {' | '.join(f'{told} in the interval' for told in MEASURES.values())} |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, entry in known.items():
        for size, counts in entry["held"].items():
            shares = " | ".join(f"{100 * counts[measure] / entry['draws']:.1f} %" for measure in MEASURES)
            pilot = f"{size} turns, {entry['draws']:,} times"
            lines.append(f"| {name} | {entry['turns']:,} of {entry['tasks']:,} tasks | {pilot} | {shares} |")
    return "\n".join(lines)


if __name__ == "__main__":
    with guarded("the same command"):
        main()
