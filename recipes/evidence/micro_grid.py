"""The micro model on Errands: every part of the evidence, in minutes. See README.md.

Cells are named demonstrator-accepted-trajectories, such as far-several-32.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "micro"))
import battery

from pivotrl import ProfileOptions, SelectionOptions, TrainingOptions, Turn, TurnOptions, cut
from pivotrl.comparison.measuring import HeldOutItems, Measuring
from pivotrl.comparison.settings import Setting
from pivotrl.environments.errands import make_environments
from pivotrl.plugins.environments import make_checked
from pivotrl.policies.hf import Policy
from pivotrl.readers.errands import read
from pivotrl.records import Trajectory
from pivotrl.verifiers.errands import verify

MODEL = Path(__file__).parent / "micro" / "model"
NUM_HELD_OUT = 64
MAX_TOKENS = 48
"""Of a demonstration's longest action, a thought and JSON."""
PLAYED = {"limit": "tight"}
"""Episodes leave one move more than a best plan needs, so detours cost."""


def trajectories(split: str, demonstrator: Any, first: int, count: int) -> list[Trajectory]:
    found = read(Path(split), demonstrator=demonstrator, first=first, tasks=count)
    return [one for one in found if isinstance(one, Trajectory)]


def make_setting(cell: str) -> Setting:
    demonstrator, accepted, number = cell.split("-")
    count = int(number)
    held_out = trajectories("test", "near", 0, NUM_HELD_OUT)
    strict = functools.partial(verify, accepted="one")

    def demonstrations(seed: int) -> Sequence[Turn]:
        return cut(trajectories("train", demonstrator, 1000 * seed, count), TurnOptions())[0]

    def to_play(seed: int) -> Any:
        made = functools.partial(make_environments, split="train", first=1000 * seed, tasks=count, **PLAYED)
        return make_checked({"errands": made})

    return Setting(
        make_policy=lambda seed: Policy(model=str(MODEL), lora_rank=0),
        turns=demonstrations,
        verifier=strict if accepted == "one" else verify,
        exact_verifier=strict,
        held_out=HeldOutItems(
            turns=cut(held_out, TurnOptions(max_per_task=2))[0],
            verifier=verify,
            walked=cut(held_out, TurnOptions())[0],
            environments=make_checked({"errands": functools.partial(make_environments, tasks=NUM_HELD_OUT, **PLAYED)}),
            texts=[text for text in battery.reference_texts() if text["source"] != "greedy"],
            questions=[
                {"id": f"q{number}", "source": question.kind, "prompt": question.text, "answer": question.answer}
                for number, question in enumerate(battery.questions(24))
            ],
        ),
        training=TrainingOptions(
            turns_per_step=16,
            turns_per_trajectory=1,
            group_size=8,
            warmup_steps=3,
            clip_high=0.28,
            train_max_tokens=MAX_TOKENS,
        ),
        profiling=ProfileOptions(num_samples=8, max_tokens=MAX_TOKENS, batch_turns=64),
        selection=SelectionOptions(max_mean=0.8),
        measuring=Measuring(samples_per_turn=4, max_tokens=MAX_TOKENS, batch=128),
        train_environments=to_play,
    )
