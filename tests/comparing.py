"""A comparison on the tabular policy, in a module so that other processes can make it."""

from __future__ import annotations

from pivotrl import Action, ProfileOptions, SelectionOptions, TrainingOptions, Turn, Verdict
from pivotrl.comparison.measuring import HeldOutItems, Measuring
from pivotrl.comparison.settings import Setting
from pivotrl.policies.tabular import Policy
from pivotrl.records import Message, Trajectory
from pivotrl.verifiers.exact import verify as exact


def lenient(turn: Turn, action: Action) -> Verdict:
    """Accepts the demonstration and every other action of even length."""
    if exact(turn, action).outcome == "pass" or len(action.content or "") % 2 == 0:
        return Verdict.passed("equivalent")
    return Verdict.failed("odd")


def turns(num_tasks: int = 12) -> list[Turn]:
    found = []
    for task in range(num_tasks):
        messages = [
            Message(role=role, content=f"{role} {task}.{turn}{'!' * (turn % 2)}")
            for turn in range(3)
            for role in ("user", "assistant")
        ]
        log = Trajectory(id=f"log{task}", task_id=f"task{task}", messages=tuple(messages))
        found += [Turn(log, place) for place in (1, 3, 5)]
    return found


def make_setting(cell: str = "") -> Setting:
    """The table has a row for each turn, so the turns that it trains on are measured too."""
    texts = [{"id": f"r{i}", "source": "test", "prompt": "1 + 1", "answer": f"{i}"} for i in range(4)]
    return Setting(
        make_policy=lambda seed: Policy(seed=seed),
        turns=lambda seed: turns(),
        verifier=lenient,
        exact_verifier=exact,
        held_out=HeldOutItems(turns(), lenient, walked=turns(), texts=texts),
        training=TrainingOptions(turns_per_step=8, group_size=4),
        profiling=ProfileOptions(num_samples=4),
        selection=SelectionOptions(max_mean=0.9),
        measuring=Measuring(samples_per_turn=2),
    )
