"""The micro model on Errands: every part of the evidence, in minutes. See README.md.

Cells are named demonstrator-accepted-trajectories, such as far-several-32. In near-several-32+128 there are 128 tasks
for methods that play.
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
MAX_TOKENS = {"far": 72}
"""Of an action, by demonstrator. `far` writes a thought and JSON, at most 65 tokens; 16 hold every other action."""
PLAYED = {"limit": "tight"}
"""Episodes leave one move more than a best plan needs, so detours cost."""


def trajectories(split: str, demonstrator: Any, first: int, count: int) -> list[Trajectory]:
    found = read(Path(split), demonstrator=demonstrator, first=first, tasks=count)
    return [one for one in found if isinstance(one, Trajectory)]


def make_setting(cell: str) -> Setting:
    demonstrator, accepted, number = cell.split("-")
    demonstrated, _, played = number.partition("+")
    count, max_tokens = int(demonstrated), MAX_TOKENS.get(demonstrator, 16)
    held_out = trajectories("test", "near", 0, NUM_HELD_OUT)
    strict = functools.partial(verify, accepted="one")

    def demonstrations(seed: int) -> Sequence[Turn]:
        return cut(trajectories("train", demonstrator, 1000 * seed, count), TurnOptions())[0]

    def to_play(seed: int) -> Any:
        tasks = int(played or demonstrated)
        made = functools.partial(make_environments, split="train", first=1000 * seed, tasks=tasks, **PLAYED)
        return make_checked({"errands": made})

    return Setting(
        make_policy=lambda seed: Policy(model=str(MODEL), lora_rank=0),
        turns=demonstrations,
        verifier=strict if accepted == "one" else verify,
        exact_verifier=strict,
        held_out=HeldOutItems(
            turns=cut(held_out, TurnOptions(max_per_task=2))[0],
            verifier=verify,
            walked=cut(held_out, TurnOptions())[0] if cell == registered.COST_CELL else (),
            environments=make_checked({"errands": functools.partial(make_environments, tasks=NUM_HELD_OUT, **PLAYED)}),
            texts=[text for text in battery.reference_texts() if text["source"] == "right"],
            questions=[
                {"id": f"q{number}", "source": question.kind, "prompt": question.text, "answer": question.answer}
                for number, question in enumerate(battery.questions(24))
            ],
            answer_verifier=battery.exact_answer,
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


RATES = (3e-5, 7e-5, 1.7e-4, 4e-4, 1e-3)
"""A decade and a half, in even steps; 1e-3 is too much and 3e-5 too little for every arm tried before."""
FEW_RATES = RATES[1:4]
ACTING = (15, 40)
"""Updates at which arms that sample are measured: 1,920 and 5,120 rollout turns."""
IMITATING = (20, 60)
"""Updates of 16 demonstrations; with 32 trajectories about one and a half and four and a half passes."""
PLAYING = (5, 15, 40)
"""Updates of 64 episodes, about 500 rollout turns each."""
LIGHT = First(ARMS["imitation"], 7e-5, 20)
BEST = First(ARMS["imitation"], 4e-4, 60)
"""What validation chose for imitation in the first seeds."""
STARTED = {
    "imitation_then_pivots": Arm(registered.EXTRA["imitation_then_pivots"], rule="mixed", first=LIGHT),
    "imitation_then_end_to_end": Arm(registered.EXTRA["imitation_then_end_to_end"], "episodes", first=LIGHT),
}
AGAIN = {
    "best_then_pivots": Arm(registered.EXTRA["best_then_pivots"], rule="mixed", first=BEST),
    "best_then_own_states": Arm(registered.EXTRA["best_then_own_states"], "own_states", first=BEST),
}
"""The second attempt, written after part D had missed its target at six seeds."""

PROFILED = {
    "pivots_16": Arm(registered.EXTRA["pivots_16"], rule="mixed", samples=16),
    "pivots_adaptive": Arm(registered.EXTRA["pivots_adaptive"], rule="mixed", samples=16, adaptive=0.9),
}


def _steps(arm: str) -> tuple[int, ...]:
    if "end_to_end" in arm or "own_states" in arm:
        return PLAYING
    return IMITATING if arm in ("imitation", "weighted_imitation") else ACTING


def _crossed(cells: Sequence[str], arms: Sequence[str], rates: Sequence[float], seed: int) -> list[Trial]:
    own = STARTED | AGAIN | PROFILED
    return [Trial(arm, rate, seed, _steps(arm), cell, own.get(arm)) for cell in cells for arm in arms for rate in rates]


def trials(parts: Sequence[str] | None = None) -> list[Trial]:
    """Seed by seed, so that an early stop leaves whole seeds."""
    cost, ablation, few = [registered.COST_CELL], [registered.ABLATION_CELL], FEW_RATES
    detours = ["detours-several-32"]
    found: list[Trial] = []
    for seed in registered.SEEDS:
        by_part = {
            "A": _crossed(registered.CELLS, ("imitation", "pivots"), RATES, seed),
            "B": _crossed(cost, ("end_to_end",), few, seed),
            "C": _crossed(ablation, registered.ABLATION, few, seed),
            "D": _crossed(cost, ("own_states", "routing", *STARTED), few, seed),
            "again": _crossed(cost, tuple(AGAIN), few, seed) + _crossed(detours, ("own_states",), few, seed),
            "baselines": _crossed(registered.CELLS[1:4], ("weighted_imitation", "self_imitation"), few, seed),
            "tasks": _crossed([registered.TASKS_CELL], ("imitation", "own_states", "best_then_own_states"), few, seed),
            "profiles": _crossed([*cost, *detours], registered.PROFILES, few, seed),
            "data": _crossed(registered.MORE_CELLS, ("imitation", "pivots"), few, seed),
        }
        for part in parts or by_part:
            found += by_part[part]
    return list({trial.folder: trial for trial in found}.values())
