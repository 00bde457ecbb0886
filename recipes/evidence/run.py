"""Run a grid of trials, measure every checkpoint, and pack the points for the results page.

    python recipes/evidence/run.py micro                  # all parts, 2 processes; started again, it goes on
    python recipes/evidence/run.py micro --parts A B      # some parts
    python recipes/evidence/run.py textworld --go-on      # skip trials whose points are committed
    python recipes/evidence/run.py micro --check 3        # run three committed trials again and compare

Writes recipes/evidence/results/<grid>.json.gz from every point that is there. See README.md for the grids.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from packed import pack, shortened, unpack

from pivotrl.cli import guarded
from pivotrl.cli.live_progress import live_progress
from pivotrl.comparison.checkpoints import write_held_out
from pivotrl.comparison.grids import read_points, run_grid
from pivotrl.comparison.points import Point
from pivotrl.comparison.trials import Trial
from pivotrl.storage.record_files import package_versions, timestamp, write_file

RESULTS = Path(__file__).parent / "results"


def still_open(trials: Sequence[Trial], committed: Sequence[Point]) -> list[Trial]:
    known = {point.key for point in committed}
    return [t for t in trials if any(t.point(step, {}, {}).key not in known for step in t.steps)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grid", choices=["micro", "textworld"])
    parser.add_argument("--parts", nargs="+")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--results", type=Path, help="the file to write; the committed one if not given")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--check", type=int, metavar="N", help="run N committed trials again and compare them")
    parser.add_argument("--go-on", action="store_true", help="skip trials whose points are committed, and keep them")
    arguments = parser.parse_args()
    grid: Any = importlib.import_module(f"{arguments.grid}_grid")
    out = arguments.out or Path("runs/evidence") / arguments.grid
    path = arguments.results or RESULTS / f"{arguments.grid}.json.gz"
    trials = [t for t in grid.trials(arguments.parts) if arguments.seeds is None or t.seed in arguments.seeds]
    if arguments.check:
        sys.exit(differing(grid, trials, unpack(path)[0], arguments.check))
    before: list[Point] = []
    if arguments.go_on and path.is_file():
        before, _ = unpack(path)
        trials = still_open(trials, before)
    for cell in dict.fromkeys(trial.cell for trial in trials):  # `pivotrl view` of a cell shows them
        write_held_out(out / cell, grid.make_setting(cell).held_out.turns)
    with live_progress() as observer:
        run_grid(grid.make_setting, out, trials, arguments.workers, observer)
    save(out, path, before, f"python recipes/evidence/run.py {arguments.grid}")


def differing(grid: Any, trials: Sequence[Trial], committed: Sequence[Point], number: int) -> int:
    """Run some of the committed trials again and print how far their values are from the committed ones.

    Returns:
        1 if one differs in any value or in its rollout turns. On another kind of processor sums round differently, so
        samples differ from some point on and with them everything.
    """
    known = {point.key: point for point in committed}
    finished = [trial for trial in trials if not still_open([trial], committed)]
    chosen = random.Random(0).sample(finished, min(number, len(finished)))  # noqa: S311
    worst = 0
    with tempfile.TemporaryDirectory() as folder, live_progress() as observer:
        run_grid(grid.make_setting, Path(folder), chosen, 1, observer)
        for point in read_points(Path(folder)):
            old = known[point.key]
            apart = max(
                abs(shortened(value) - old.values[measure][cluster])
                for measure, found in point.values.items()
                for cluster, value in found.items()
            )
            same = apart == 0 and point.costs.rollout_turns == old.costs.rollout_turns
            worst |= not same
            print(f"{'same     ' if same else 'DIFFERENT'} {point.key}, largest difference {apart:g}")
    return worst


def save(out: Path, path: Path, before: Sequence[Point], command: str) -> None:
    """Write the points of all trials that there are.

    Args:
        command: makes the whole grid; which seeds and parts there are is in the points.
    """
    found = {point.key: point for point in (*before, *read_points(out))}
    about = {
        "command": command,
        "date": timestamp(),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, no GPU",
        "versions": package_versions(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, pack(sorted(found.values(), key=lambda p: (p.cell, p.arm, p.rate, p.seed, p.step)), about))
    print(f"{len(found)} points in {path}")


if __name__ == "__main__":
    with guarded("the same command"):
        main()
