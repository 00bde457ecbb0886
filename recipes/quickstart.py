"""From expert trajectories to a better policy and a report, on 2 CPU cores.

    python recipes/quickstart.py            # 13 to 15 minutes; started again, it goes on where it stopped
    python recipes/quickstart.py --long     # `make demo`: more turns profiled, more steps, more held-out tasks

Model: SmolLM2-135M-Instruct with the warm-start adapter of this folder. Trajectories: Plancraft's published oracle on
its published train tasks. Held out: turns of its easy and medium test tasks, episodes of its easy and
impossible ones.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import crafting as setting
from pivotrl import EvaluationOptions, ProfileOptions, SelectionOptions, TrainingOptions, TurnOptions, run
from pivotrl.cli import guarded
from pivotrl.cli.live_progress import live_progress
from pivotrl.cli.tables import print_summary
from pivotrl.evaluation import load_retention
from pivotrl.policies.hf import Policy
from pivotrl.storage.record_files import timestamp, write_file


@dataclasses.dataclass(frozen=True)
class Size:
    profiled_turns: int
    samples_per_turn: int
    steps: int
    heldout_turns: int
    heldout_tasks: int | None
    impossible_tasks: int
    retention_texts: int


QUICK = Size(128, 4, 22, 96, 16, 4, 12)
LONG = Size(320, 8, 60, 160, 71, 16, 40)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="write the numbers to recipes/results")
    arguments = parser.parse_args()
    size, name = (LONG, "demo") if arguments.long else (QUICK, "quickstart")
    out = arguments.out or Path("runs") / name
    with live_progress() as observer:
        summary = run(
            "train",
            out,
            reader=setting.reader,
            verifier=setting.verifier,
            policy=Policy(
                model=setting.MODEL,
                adapter=str(setting.WARM_START),
                style=setting.STYLE,
                lora_rank=16,
                frozen_layers=10,
                seed=arguments.seed,
            ),
            heldout="test",
            environments=setting.environments("test", size.heldout_tasks, size.impossible_tasks),
            retention=load_retention(setting.RETENTION, size.retention_texts),
            turns=TurnOptions(max_per_task=3, max_turns=size.profiled_turns, draw_seed=arguments.seed),
            profiling=ProfileOptions(num_samples=size.samples_per_turn, max_tokens=setting.MAX_TOKENS),
            selection=SelectionOptions(rule="mixed", max_mean=0.8),
            training=TrainingOptions(
                num_steps=size.steps,
                turns_per_step=8,
                turns_per_trajectory=1,
                group_size=8,
                learning_rate=2e-4,
                warmup_steps=3,
                clip_high=0.28,
                train_max_tokens=setting.MAX_TOKENS,
                train_seed=arguments.seed,
                checkpoint_every=1,
            ),
            evaluation=EvaluationOptions(
                heldout_turns=size.heldout_turns,
                turn_samples=4,
                turn_temperature=1.0,
                eval_max_tokens=setting.MAX_TOKENS,
            ),
            resume=out.is_dir(),
            observer=observer,
        )
    print_summary(summary, as_json=False)
    if arguments.record:
        result = {
            "command": f"make {name}",
            "date": timestamp(),
            "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, no GPU",
            "seed": arguments.seed,
            "summary": {key: value for key, value in summary.as_json().items() if key != "directory"},
        }
        write_file(setting.RESULTS / f"{name}.json", json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    with guarded("the same command"):
        main()
