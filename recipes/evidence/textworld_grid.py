"""TextWorld with SmolLM2-135M-Instruct from its untouched weights: the cells that decide. See README.md.

Cells are named demonstrator-accepted-trajectories. "one": a quest of three moves, so one command is right at a time.
"several": two quests of two moves side by side, so several commands are right until one quest is done.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pivotrl import ProfileOptions, SelectionOptions, TrainingOptions, Turn, TurnOptions, cut
from pivotrl.comparison.measuring import HeldOutItems, Measuring
from pivotrl.comparison.settings import Setting
from pivotrl.comparison.trials import Trial
from pivotrl.environments.textworld import make_environments
from pivotrl.evaluation import load_retention
from pivotrl.plugins.environments import make_checked
from pivotrl.policies.hf import Policy
from pivotrl.readers.textworld import read
from pivotrl.records import Trajectory
from pivotrl.verifiers.exact import verify as exact
from pivotrl.verifiers.textworld import verify

MODEL = "smollm2-135m-instruct"
TEXTS = Path(__file__).parents[1] / "data" / "gsm8k_60.jsonl"
GAMES = {
    "one": {"rooms": 3, "objects": 4, "quest_length": 3},
    "several": {"rooms": 2, "objects": 4, "quest_length": 2, "quests": 2},
}
MAX_TURNS = {"one": 4, "several": 5}
"""One move more than a best plan needs, so detours cost."""
FIRST_HELD_OUT = 10_000
NUM_HELD_OUT = 40
MAX_TOKENS = {"near": 16, "detours": 16, "privileged": 16, "far": 80}


def trajectories(demonstrator: Any, accepted: str, first: int, count: int) -> list[Trajectory]:
    found = read(Path(f"{first}-{first + count - 1}"), demonstrator=demonstrator, **GAMES[accepted])
    return [one for one in found if isinstance(one, Trajectory)]


def make_setting(cell: str) -> Setting:
    demonstrator, accepted, number = cell.split("-")
    count = int(number)
    held_out = trajectories("near", accepted, FIRST_HELD_OUT, NUM_HELD_OUT)
    max_tokens = MAX_TOKENS[demonstrator]

    def demonstrations(seed: int) -> Sequence[Turn]:
        return cut(trajectories(demonstrator, accepted, 1000 * seed, count), TurnOptions())[0]

    def to_play(seed: int) -> Any:
        games = {"first": 1000 * seed, "games": count, "max_turns": MAX_TURNS[accepted], **GAMES[accepted]}
        made = functools.partial(make_environments, **games)
        return make_checked({"textworld": made})

    return Setting(
        make_policy=lambda seed: Policy(model=MODEL, lora_rank=16, seed=seed),
        turns=demonstrations,
        verifier=verify,
        exact_verifier=exact,
        held_out=HeldOutItems(
            turns=cut(held_out, TurnOptions(max_per_task=1))[0],
            verifier=verify,
            environments=make_checked(
                {
                    "textworld": functools.partial(
                        make_environments,
                        first=FIRST_HELD_OUT,
                        games=NUM_HELD_OUT,
                        max_turns=MAX_TURNS[accepted],
                        **GAMES[accepted],
                    )
                }
            ),
            texts=load_retention(TEXTS, 20),
        ),
        training=TrainingOptions(
            turns_per_step=16,
            turns_per_trajectory=1,
            group_size=8,
            warmup_steps=3,
            clip_high=0.28,
            train_max_tokens=max_tokens,
        ),
        profiling=ProfileOptions(num_samples=8, max_tokens=max_tokens),
        selection=SelectionOptions(max_mean=0.8),
        measuring=Measuring(samples_per_turn=4, max_tokens=max_tokens),
        train_environments=to_play,
    )


RATES = {"imitation": (5e-5, 2e-4, 5e-4), "pivots": (5e-5, 1e-4, 2e-4), "end_to_end": (5e-5, 1e-4, 2e-4)}
STEPS = {"imitation": (12, 36), "pivots": (10, 20), "end_to_end": (5, 10, 20)}
CELLS = ("far-several-64", "detours-several-64", "near-one-64")
SEEDS = (0, 1, 2)


def trials(parts: Sequence[str] | None = None) -> list[Trial]:
    """In order of value: seed by seed and cell by cell, the middle rates first; end-to-end RL last."""
    found = []
    for seed in SEEDS:
        for cell in CELLS:
            found += [
                Trial(arm, RATES[arm][place], seed, STEPS[arm], cell)
                for place in (1, 2, 0)
                for arm in ("imitation", "pivots")
            ]
    return found + [
        Trial("end_to_end", rate, seed, STEPS["end_to_end"], CELLS[0]) for seed in SEEDS for rate in RATES["end_to_end"]
    ]
