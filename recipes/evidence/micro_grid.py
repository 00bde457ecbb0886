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
sys.path.insert(0, str(Path(__file__).parent))
import battery
import registered

from pivotrl import ProfileOptions, SelectionOptions, TrainingOptions, Turn, TurnOptions, cut
from pivotrl.comparison.arms import ARMS, Arm, First
from pivotrl.comparison.measuring import HeldOutItems, Measuring
from pivotrl.comparison.settings import Setting
from pivotrl.comparison.trials import Trial
from pivotrl.environments.errands import make_environments
from pivotrl.plugins.environments import make_checked
from pivotrl.policies.hf import Policy
from pivotrl.readers.errands import read
from pivotrl.records import Trajectory
from pivotrl.verifiers.errands import verify

MODEL = Path(__file__).parent / "micro" / "model"
NUM_HELD_OUT = 48
MAX_TOKENS = {"far": 48}
"""Of an action, by demonstrator. Only `far` writes a thought and JSON; 16 hold every other action."""
PLAYED = {"limit": "tight"}
"""Episodes leave one move more than a best plan needs, so detours cost."""


def trajectories(split: str, demonstrator: Any, first: int, count: int) -> list[Trajectory]:
    found = read(Path(split), demonstrator=demonstrator, first=first, tasks=count)
    return [one for one in found if isinstance(one, Trajectory)]


def make_setting(cell: str) -> Setting:
    demonstrator, accepted, number = cell.split("-")
    count, max_tokens = int(number), MAX_TOKENS.get(demonstrator, 16)
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
            texts=[text for text in battery.reference_texts() if text["source"] == "right"],
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
            train_max_tokens=max_tokens,
        ),
        profiling=ProfileOptions(num_samples=8, max_tokens=max_tokens, batch_turns=64),
        selection=SelectionOptions(max_mean=0.8),
        measuring=Measuring(samples_per_turn=4, max_tokens=max_tokens, batch=128),
        train_environments=to_play,
    )


RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
"""Two decades."""
STEPS = {"imitation": (10, 30, 60), "weighted_imitation": (10, 30, 60), "end_to_end": (5, 10, 20, 40)}
ACTING = (10, 20, 40)
"""Updates at which arms that sample are measured."""
SEEDS = tuple(range(10))
COST_CELL = "near-several-128"
ABLATION_CELL = "far-several-32"
LIGHT = First(ARMS["imitation"], 3e-4, 10)
STARTED = {
    "imitation_then_pivots": Arm("imitation, then PivotRL", rule="mixed", first=LIGHT),
    "imitation_then_end_to_end": Arm("imitation, then end-to-end RL", "episodes", first=LIGHT),
}


def part_a(seed: int) -> list[Trial]:
    found = []
    for cell in registered.CELLS:
        for arm in registered.FRONTIER:
            found += [Trial(arm, rate, seed, STEPS.get(arm, ACTING), cell) for rate in RATES]
    return found
