"""What was fixed before the first run: measures, cells, families, levels. README.md says why."""

from __future__ import annotations

from pivotrl.comparison.arms import ARMS

SCORE = "episodes/greedy"
"""Primary score: held-out tasks done, greedily, with one move more than a best plan needs."""
HARM = "nll"
"""Primary forgetting: change of the negative log-likelihood of answers outside the task."""
SHOWN = (
    "episodes/greedy",
    "episodes/sampled",
    "turns/greedy",
    "turns/sampled",
    "progress/greedy",
    "nll",
    "answers",
    "kl/tasks",
)
SEEDS = tuple(range(10))
CELLS = ("near-one-32", "near-several-32", "far-several-32", "detours-several-32", "privileged-several-32")
"""demonstrator-accepted-trajectories: the chosen fraction of the grid, whose contests are the family."""
MORE_CELLS = ("far-several-8", "far-several-128", "detours-several-8", "detours-several-128")
"""The number of demonstrations; shown, not in the family."""
FRONTIER = ("imitation", "weighted_imitation", "self_imitation", "pivots", "random")
ABLATION = ("random", "all", "pivots_published", "pivots_exact", "all_exact")
EPISODES = ("own_states", "routing", "imitation_then_pivots", "imitation_then_end_to_end", "end_to_end")
"""Part D."""
AGAIN = ("best_then_pivots", "best_then_own_states")
"""Its second attempt."""
PROFILES = ("pivots_16", "pivots_adaptive", "lazy")
"""How turns are profiled; `pivots` takes 8 samples a turn."""
TASKS_CELL = "near-several-32+128"
"""Its third attempt: methods that play have four times as many tasks as there are demonstrations."""
ABLATION_CELL = COST_CELL = "near-several-32"
MATCHED = ("episodes/greedy", "turns/sampled")
COSTS = ("rollout turns", "prefilled tokens", "decoded tokens", "trained tokens", "seconds")
PREDICTIONS = (
    ("turns/greedy", "episodes/greedy", False),
    ("turns/sampled", "episodes/greedy", False),
    ("progress/greedy", "episodes/greedy", False),
    ("kl/tasks", "nll", True),
    ("kl/answers", "nll", True),
    ("kl/tasks", "answers", True),
)


def title(arm: str) -> str:
    return ARMS[arm].title if arm in ARMS else EXTRA[arm]


EXTRA = {
    "imitation_then_pivots": "imitation, then PivotRL",
    "imitation_then_end_to_end": "imitation, then end-to-end RL",
    "pivots_16": "PivotRL, profile of 16 samples",
    "pivots_adaptive": "PivotRL, adaptive profile",
    "best_then_pivots": "imitation at its best, then PivotRL",
    "best_then_own_states": "imitation at its best, then own-state pivots",
}
