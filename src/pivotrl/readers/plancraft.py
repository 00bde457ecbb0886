"""Expert trajectories of Plancraft: its published oracle plays its published tasks."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from plancraft.environment import planner
from plancraft.environment.recipes import SmeltingRecipe, id_to_item

from pivotrl.environments.plancraft import CraftingTable, load_tasks, observation_text, parse_action, recipes_for
from pivotrl.options import AtLeast1
from pivotrl.records import Message, Trajectory


def _items_in_order(item_ids: set[int]) -> Any:
    """What the planner's own function returns, as a set that always has the same order."""
    return dict.fromkeys(id_to_item(item_id) for item_id in sorted(item_ids)).keys()


# The planner takes the first fitting item of a set of names, whose order differs from process to process.
planner.item_set_id_to_type = _items_in_order


def _crafted(recipe: Any, inventory: Counter[str]) -> dict[str, int]:
    """The inventory after the recipe. Of several items that could be smelted the first by name is."""
    unused: Counter[str] = Counter()
    if isinstance(recipe, SmeltingRecipe):
        fitting = sorted(item for item in recipe.ingredient if inventory[item] > 0)
        unused = Counter({item: inventory[item] for item in fitting[1:]})
    after: dict[str, int] = recipe.craft_from_inventory(dict(inventory - unused))
    return dict(Counter(after) + unused)


def expert_moves(task: dict[str, Any]) -> list[str]:
    """The oracle's moves: the task's published recipe path, each recipe broken into moves by the package's planner.

    An impossible task has the one right answer ``impossible: ``.

    Raises:
        ValueError: the moves do not craft the target.
    """
    if task["impossible"]:
        return ["impossible: the inventory does not hold what the recipes need"]
    table, moves = CraftingTable(task["slotted_inventory"]), []
    for item in task["optimal_path"]:
        inventory = Counter(planner.get_inventory_counter(table.state))
        recipe = next((r for r in recipes_for(item) if r.can_craft_from_inventory(inventory)), None)
        if recipe is None:
            raise ValueError(f"no recipe for {item} fits the inventory")
        after = _crafted(recipe, inventory)
        subplan, _, _ = planner.decompose_subgoal(copy.deepcopy(table.state), recipe, after)
        for move in subplan:
            moves.append(move)
            table.apply(parse_action(move))
    if not table.holds(task["target"]):
        raise ValueError("the planned moves do not craft the target")
    return moves


def read(
    path: Path,
    *,
    difficulty: Sequence[str] = ("easy", "medium"),
    distractors: Sequence[int] = (4,),
    max_tasks: AtLeast1 | None = None,
    seed: int = 0,
    recipes: bool = True,
    context_window: AtLeast1 | None = 1,
) -> Iterator[Trajectory]:
    """Play the oracle on the tasks of a split (a split's name, or a file of tasks).

    Tasks whose published path the planner cannot turn into moves are left out; every trajectory
    that is yielded ends in success, as its reward says.
    """
    for task in load_tasks(path, difficulty, distractors, max_tasks, seed):
        try:
            moves = expert_moves(task)
        except (ValueError, AssertionError, TypeError, KeyError):
            # The planner signals an unplannable step in any of these ways; the next task is not affected.
            continue
        table = CraftingTable(task["slotted_inventory"])
        messages: list[Message] = []
        for move in moves:
            text = observation_text(task["target"], table.state, recipes)
            messages += [Message(role="user", content=text), Message(role="assistant", content=move)]
            if not task["impossible"]:
                table.apply(parse_action(move))
        yield Trajectory(
            id=f"plancraft-{task['id']}",
            task_id=task["id"],
            messages=tuple(messages),
            reward=1.0,
            context_window=context_window,
            metadata={
                "domain": "plancraft",
                "difficulty": task["complexity_split"],
                "distractors": task["num_distractors"],
                "target": task["target"],
                "impossible": task["impossible"],
                "path": list(task["optimal_path"] or ()),
            },
        )
