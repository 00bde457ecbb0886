"""From expert trajectories to a better policy and a report, on 2 CPU cores.

    python recipes/quickstart.py            # about 9 minutes; started again, it goes on where it stopped

Model: SmolLM2-135M-Instruct as it was published. Trajectories: an oracle that wins generated TextWorld games (three
moves each). Held out: turns and whole episodes of other games, and text outside the task.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
from pathlib import Path

from pivotrl import EvaluationOptions, ProfileOptions, SelectionOptions, TrainingOptions, TurnOptions, run
from pivotrl.cli import guarded
from pivotrl.cli.live_progress import live_progress
from pivotrl.cli.tables import print_summary
from pivotrl.cli.view_page import prompting_in, views_in
from pivotrl.environments.textworld import make_environments
from pivotrl.evaluation import load_retention
from pivotrl.plugins.describing import spec_text
from pivotrl.policies.hf import Policy
from pivotrl.readers.textworld import read
from pivotrl.report.browser import write_view
from pivotrl.report.page import write_report
from pivotrl.storage.record_files import timestamp, write_file
from pivotrl.verifiers.textworld import verify

HERE = Path(__file__).parent
WORLD = {"rooms": 3, "objects": 4, "quest_length": 3}
TRAIN, HELD_OUT = "0-79", (10_000, 60)
MAX_TOKENS = 16
"""A command has at most 14 tokens."""
PLAYED = {"first": HELD_OUT[0], "games": HELD_OUT[1], "max_turns": 5, **WORLD}
"""Two moves more than a game needs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="write the numbers to recipes/results")
    arguments = parser.parse_args()
    with live_progress() as observer:
        summary = run(
            TRAIN,
            arguments.out,
            reader=functools.partial(read, **WORLD),
            verifier=verify,
            policy=Policy(model="smollm2-135m-instruct", lora_rank=16, seed=arguments.seed),
            heldout=f"{HELD_OUT[0]}-{sum(HELD_OUT) - 1}",
            environments={
                spec_text("textworld", make_environments, PLAYED): functools.partial(make_environments, **PLAYED)
            },
            retention=load_retention(HERE / "data" / "gsm8k_60.jsonl", 20),
            turns=TurnOptions(max_turns=192, draw_seed=arguments.seed),
            profiling=ProfileOptions(num_samples=4, max_tokens=MAX_TOKENS),
            selection=SelectionOptions(rule="mixed", max_mean=0.8),
            training=TrainingOptions(
                num_steps=20,
                turns_per_step=16,
                turns_per_trajectory=1,
                group_size=8,
                learning_rate=1e-4,
                warmup_steps=3,
                clip_high=0.28,
                train_max_tokens=MAX_TOKENS,
                train_seed=arguments.seed,
                checkpoint_every=1,
            ),
            evaluation=EvaluationOptions(
                heldout_turns=96,
                turn_samples=4,
                turn_temperature=1.0,
                eval_max_tokens=MAX_TOKENS,
            ),
            resume=arguments.out.is_dir(),
            observer=observer,
        )
        views = views_in(arguments.out, None)
        write_view(arguments.out, prompting=prompting_in(arguments.out), views=views)
        write_report(arguments.out)  # once more: it links to the other page
    print_summary(summary, as_json=False)
    if arguments.record:
        result = {
            "command": "make quickstart",
            "date": timestamp(),
            "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, no GPU",
            "seed": arguments.seed,
            "summary": {key: value for key, value in summary.as_json().items() if key != "directory"},
        }
        write_file(HERE / "results" / "quickstart.json", json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    with guarded("the same command"):
        main()
