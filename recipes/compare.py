"""Base, SFT on all turns, SFT on pivots, random turns, exact reward and PivotRL on Plancraft, on the same budget.

    python recipes/compare.py --seeds 0 1 2        # hours on 2 cores; started again, it goes on where it stopped

Prints a table and writes recipes/results/compare.json. Every arm starts from the warm start, is held to the same
computation (profiling counted) and is measured on the same held-out turns and episodes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import crafting as setting
from pivotrl import EvaluationOptions, ProfileOptions, SelectionOptions, TrainingOptions, TurnOptions
from pivotrl.cli import guarded
from pivotrl.cli.live_progress import live_progress
from pivotrl.comparison import ARMS, Protocol, collect, run_seed
from pivotrl.evaluation import load_retention
from pivotrl.policies.hf import Policy
from pivotrl.storage.record_files import package_versions, timestamp, write_file
from pivotrl.verifiers.exact import verify as exact

RESULTS = Path(__file__).parent / "results" / "compare.json"


def protocol() -> Protocol:
    return Protocol(
        source="train",
        heldout="test",
        reader=setting.reader,
        verifier=setting.verifier,
        exact_verifier=exact,
        make_policy=lambda seed: Policy(
            model=setting.MODEL,
            adapter=str(setting.WARM_START),
            style=setting.STYLE,
            lora_rank=16,
            frozen_layers=10,
            seed=seed,
        ),
        environments=setting.environments("test", 40, 0),
        turns=TurnOptions(max_per_task=3, max_turns=120),
        profiling=ProfileOptions(num_samples=4, max_tokens=setting.MAX_TOKENS),
        selection=SelectionOptions(max_mean=0.8),
        training=TrainingOptions(
            num_steps=15,
            turns_per_step=8,
            turns_per_trajectory=1,
            group_size=8,
            learning_rate=2e-4,
            warmup_steps=3,
            average_over="signal",
            clip_high=0.28,
            train_max_tokens=setting.MAX_TOKENS,
        ),
        imitation_rate=5e-4,
        evaluation=EvaluationOptions(
            heldout_turns=96, turn_samples=4, turn_temperature=1.0, eval_max_tokens=setting.MAX_TOKENS
        ),
        retention=load_retention(setting.RETENTION, 20),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/compare"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        with live_progress() as observer:
            run_seed(arguments.out, seed, protocol(), arguments.arms, observer)
        seeds = " ".join(map(str, arguments.seeds))
        results = {
            "command": f"python recipes/compare.py --seeds {seeds} --arms {' '.join(arguments.arms)}",
            "date": timestamp(),
            "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, no GPU",
            "versions": package_versions(),
            "arms": collect(arguments.out),
        }
        write_file(RESULTS, json.dumps(results, indent=2) + "\n")
    for name, arm in results["arms"].items():
        print(name, arm["seeds"], arm["turns"]["mean"], (arm["episodes"] or {}).get("mean"))


if __name__ == "__main__":
    with guarded("the same command"):
        main()
