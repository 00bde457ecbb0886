"""Profile with 32 samples a turn, and pack what the cost of any smaller profile depends on.

    python recipes/profiles/measure.py micro near-several-32 --seeds 0 1 2 3 4
    python recipes/profiles/measure.py textworld near-one-64 --seeds 0

Writes recipes/profiles/results/GRID-CELL-SEED.json.gz. A profile that was interrupted goes on where it stopped.
`costs.py` makes the table of docs/profiling.md from these files: fixed and adaptive profiles take the first samples of
each turn, so they need no samples of their own.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import importlib
import json
import math
import os
import platform
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "evidence"))

from pivotrl.cli import guarded
from pivotrl.cli.live_progress import live_progress
from pivotrl.evaluation import score_demonstrations
from pivotrl.profiling import profile
from pivotrl.storage.record_files import timestamp, write_file

RESULTS = Path(__file__).parent / "results"
NUM_SAMPLES = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grid", choices=["micro", "textworld"])
    parser.add_argument("cell")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/profiles"))
    arguments = parser.parse_args()
    grid: Any = importlib.import_module(f"{arguments.grid}_grid")
    setting = grid.make_setting(arguments.cell)
    for seed in arguments.seeds:
        folder = arguments.out / arguments.grid / arguments.cell / f"seed{seed}"
        turns, policy = list(setting.turns(seed)), setting.make_policy(seed)
        options = dataclasses.replace(setting.profiling, num_samples=NUM_SAMPLES, profile_seed=seed)
        with live_progress() as observer:
            groups, _ = profile(turns, policy, setting.verifier, folder / "profiles.jsonl", options, observer)
            scores = score_demonstrations(policy, turns, folder / "demonstrations.jsonl", observer=observer)
        chances = {score.turn_id: math.exp(-score.nll) for score in scores if score.nll is not None}
        accepted = {turn.id: setting.verifier(turn, turn.expected_action).reward for turn in turns}
        rows = [
            {
                "turn": group.turn_id,
                "rewards": [verdict.reward for verdict in group.verdicts_G],
                "tokens": [len(completion.token_ids_T) for completion in group.completions_G],
                "prompt": group.num_prompt_tokens,
                "demonstrated": round(chances.get(group.turn_id, 0.0), 4),
                "accepted": accepted[group.turn_id],
            }
            for group in groups
        ]
        about = {
            "command": f"python recipes/profiles/measure.py {arguments.grid} {arguments.cell} --seeds {seed}",
            "date": timestamp(),
            "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, no GPU",
        }
        RESULTS.mkdir(exist_ok=True)
        packed = gzip.compress(json.dumps({"about": about, "turns": rows}).encode(), mtime=0)
        write_file(RESULTS / f"{arguments.grid}-{arguments.cell}-{seed}.json.gz", packed)


if __name__ == "__main__":
    with guarded("the same command"):
        main()
