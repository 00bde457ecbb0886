"""What differs between the recipes, and how much of everything they do."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

SIZES = {
    "full": {
        "turns": "--max-turns 2000 --num-samples 16",
        "pilot": "--pilot 100",
        "length": "--num-steps 100 --turns-per-step 32 --group-size 16",
        "training": "--turns-per-trajectory 4 --warmup-steps 5 --clip-high 0.28 --checkpoint-every 10",
        "method of episodes": "episodes(tasks_per_step=16)",
        "measuring": "--heldout-turns 400 --eval-temperatures 0 1 --episodes-per-task 4",
        "benchmark": "--trials 4",
    },
    "try": {
        "turns": "--max-turns 4 --num-samples 2",
        "pilot": "--pilot 2",
        "length": "--num-steps 1 --turns-per-step 2 --group-size 2",
        "selection": "--rule all",
        "training": "--turns-per-trajectory 1",
        "method of episodes": "episodes(tasks_per_step=1)",
        "checking": "--check-turns 4",
        "measuring": "--heldout-turns 2",
        "benchmark": "--tasks 2",
    },
}
"""What each command does, as its flags."""


@dataclass(frozen=True)
class Recipe:
    """Everything that is the domain's own."""

    verifier: str
    max_tokens: int
    """Of an action."""
    source: str = ""
    """What `pivotrl read` reads. Empty: the user's own logs, see ``where``."""
    where: str = ""
    read: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    train_environment: str = ""
    """End-to-end RL plays it; empty: the recipe compares with imitation alone."""
    benchmark: tuple[str, ...] = ()
    policy: str = "hf(lora_rank=32, variables={'enable_thinking': False})"
    """Qwen3's template closes the thought in the prompt then: the demonstrations hold none."""
    tried: Mapping[str, Any] = field(default_factory=dict)
    """What is smaller in a trial."""


RECIPES = {
    "tau2": Recipe(
        source="full_train",
        read=("--reader", "tau2_solo", "--heldout", "test"),
        verifier="plan(environment='tau2')",
        max_tokens=128,
        environments=("tau2",),
        train_environment="tau2(split='full_train')",
        benchmark=("tau2",),
        tried={
            "source": "train",
            "read": ("--reader", "tau2_solo(policy='short', kinds=('service_issue',))", "--heldout", "test"),
            "environments": ("tau2(policy='short', kinds=('service_issue',), first=1, max_turns=1)",),
            "train_environment": "tau2(split='train', policy='short', kinds=('service_issue',), max_turns=1)",
        },
    ),
    "bfcl": Recipe(
        source="base",
        read=("--reader", "bfcl(first=150)"),
        verifier="bfcl",
        max_tokens=256,
        environments=("bfcl(skip=150)", "bfcl(category='miss_func', skip=150)", "bfcl_irrelevance"),
        train_environment="bfcl(first=150)",
        benchmark=("bfcl",),
        tried={
            "read": ("--reader", "bfcl(tools='signatures', first=8)"),
            "environments": ("bfcl(tools='signatures', skip=150, first=1, max_turns=1)",),
            "train_environment": "bfcl(tools='signatures', first=8, max_turns=1)",
        },
    ),
    "swe": Recipe(
        where="rows of a released set, such as SWE-Pivot-v1, or trajectories of SWE-smith or SWE-Gym (README.md)",
        verifier="first_decisive(verifiers=('command', 'edit', 'tool_call'))",
        max_tokens=1024,
        benchmark=("swe",),
    ),
}


def chosen(name: str, is_tried: bool) -> tuple[Recipe, dict[str, list[str]]]:
    """The recipe, and the flags of each part of it."""
    recipe = RECIPES[name]
    if is_tried:
        recipe = replace(recipe, max_tokens=8, **recipe.tried)
    size = SIZES["try" if is_tried else "full"]
    return recipe, {part: shlex.split(size.get(part, "")) for part in SIZES["full"] | SIZES["try"]} | {
        "method of episodes": [size["method of episodes"]]
    }
