"""The Plancraft setting that the recipes share: model, tasks, verifier.

Trajectories and held-out turns come from the benchmark's easy and medium tasks (train and test split), episodes from
its easy and impossible ones, all with four distractors. Every observation carries the answer of the benchmark's own
`search` action for the target.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pivotrl.environments.plancraft import PlancraftTasks, make_environments
from pivotrl.plugins.describing import spec_text
from pivotrl.readers.plancraft import read
from pivotrl.verifiers.plancraft import verify as verifier

MODEL = "smollm2-135m-instruct"
WARM_START = Path(__file__).parent / "warm_start"
"""LoRA adapter made by warm_start.py: 320 expert turns of imitation, so that the model acts at all."""
STYLE: Literal["chatml"] = "chatml"
"""The warm start was trained on these prompts; the model's own template would begin them with a system message."""
RETENTION = Path(__file__).parent / "data" / "gsm8k_60.jsonl"
RESULTS = Path(__file__).parent / "results"
MAX_TOKENS = 24
"""An action has 16 to 20 tokens."""
DISTRACTORS = (4,)

reader = functools.partial(read, difficulty=("easy", "medium"), distractors=DISTRACTORS)


def environments(split: str, num_easy: int | None, num_impossible: int) -> dict[str, Callable[[], PlancraftTasks]]:
    """Easy held-out tasks (all of them for None) and impossible ones, whose right answer is to stop; each named as
    the command line names it."""
    made: dict[str, Callable[[], PlancraftTasks]] = {}
    for difficulty, count in (("easy", num_easy), ("impossible", num_impossible)):
        if count != 0:
            options = {"split": split, "difficulty": (difficulty,), "max_tasks": count, "max_turns": 12}
            name = spec_text("plancraft", make_environments, options)
            made[name] = functools.partial(make_environments, **options)
    return made


__all__ = [
    "DISTRACTORS",
    "MAX_TOKENS",
    "MODEL",
    "RESULTS",
    "RETENTION",
    "STYLE",
    "WARM_START",
    "environments",
    "reader",
    "verifier",
]
