"""Functional equivalence in Plancraft: an action passes when it brings the target closer.

The state is restored from the observation, the action is executed in it, and the fewest moves that still separate
the state from the target are counted before and after. Other slots, other orders and other ingredients of the same
recipe therefore count as equal; a move that changes nothing, or undoes something, does not pass.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from typing import Any

from plancraft.environment.actions import StopAction
from plancraft.environment.recipes import ShapelessRecipe, SmeltingRecipe, id_to_item

from pivotrl.environments.plancraft import CraftingTable, Inventory, parse_action, parse_observation, recipes_for
from pivotrl.protocols import Turn
from pivotrl.records import Action, Verdict

Grid = tuple[tuple[int, str, int], ...]
"""The occupied crafting cells: (cell 1-9, item, quantity)."""

_MAX_REORDERED = 4
"""Paths of up to this many crafts are tried in every order; longer ones only in the published order."""


def remaining_moves(inventory: Inventory, target: str, path: tuple[str, ...]) -> int | None:
    """Fewest moves that craft the target along any part (and, if it is short, any order) of the recipe path; None if
    none does."""
    if any(item["type"] == target and slot != 0 for slot, item in inventory.items()):
        return 0
    grid = tuple(sorted((slot, i["type"], i["quantity"]) for slot, i in inventory.items() if 1 <= slot <= 9))
    stock = Counter[str]()
    for slot, item in inventory.items():
        if slot >= 10:
            stock[item["type"]] += item["quantity"]
    return _fewest(grid, frozenset(stock.items()), target, path)


@functools.lru_cache(maxsize=100_000)
def _fewest(grid: Grid, stock: frozenset[tuple[str, int]], target: str, path: tuple[str, ...]) -> int | None:
    best: int | None = None
    if len(path) <= _MAX_REORDERED:
        choices = {(item, path[:i] + path[i + 1 :]) for i, item in enumerate(path)}
    else:
        choices = {(path[i], path[i + 1 :]) for i in range(len(path))}
    for item, rest in sorted(choices):
        for recipe in recipes_for(item):
            for cost, new_grid, new_stock in _crafts(recipe, grid, stock):
                if item == target:
                    total: int | None = cost
                else:
                    later = _fewest(new_grid, new_stock, target, rest)
                    total = None if later is None else cost + later
                if total is not None and (best is None or total < best):
                    best = total
    return best


def _crafts(
    recipe: Any, grid: Grid, stock: frozenset[tuple[str, int]]
) -> Iterator[tuple[int, Grid, frozenset[tuple[str, int]]]]:
    """(moves, grid after, stock after) for each way to use the recipe once."""
    inventory = Counter(dict(stock))
    total = inventory + Counter[str]()
    for _, item, quantity in grid:
        total[item] += quantity
    if isinstance(recipe, SmeltingRecipe):
        for item in sorted(recipe.ingredient):
            if total[item] > 0:
                if inventory[item] > 0:
                    after, new_grid = inventory - Counter([item]), grid
                else:  # smelted straight from a cell
                    after, new_grid = inventory, _take_one(grid, item)
                yield 1, new_grid, frozenset((after + Counter([recipe.result.item])).items())
        return
    for needed in _placements(recipe, grid, total):
        held = {cell: item for cell, item, _ in grid}
        right = {cell for cell, item in needed.items() if held.get(cell) == item}
        missing = Counter(item for cell, item in needed.items() if cell not in right)
        wrong = Counter(item for cell, item in held.items() if cell not in right)
        # A misplaced item may go straight to a cell that needs it: one move instead of two.
        moves = missing.total() + wrong.total() - (missing & wrong).total() + 1
        used = Counter(needed.values())
        if used - total:
            continue
        leftover, left_total = [], total - used
        for cell, item, quantity in grid:
            if cell in right and quantity > 1:
                leftover.append((cell, item, quantity - 1))
        in_cells = Counter[str]()
        for _, item, quantity in leftover:
            in_cells[item] += quantity
        after = (left_total - in_cells) + Counter({recipe.result.item: recipe.result.count})
        yield moves, tuple(leftover), frozenset(after.items())


def _take_one(grid: Grid, item: str) -> Grid:
    cells = list(grid)
    for i, (cell, name, quantity) in enumerate(cells):
        if name == item:
            cells[i : i + 1] = [(cell, name, quantity - 1)] if quantity > 1 else []
            break
    return tuple(cells)


def _placements(recipe: Any, grid: Grid, total: Counter[str]) -> Iterator[dict[int, str]]:
    """The useful ways to lay out a recipe: {cell: item}, the ones that keep most of the grid."""
    held = {cell: item for cell, item, _ in grid}
    if isinstance(recipe, ShapelessRecipe):
        for ingredients in recipe.ingredients:
            want = Counter({item: count for item, count in ingredients.items() if item is not None})
            if want - total:
                continue
            layout: dict[int, str] = {}
            for cell, item in sorted(held.items()):  # any cell will do: keep what is already right
                if want[item] > 0:
                    layout[cell] = item
                    want[item] -= 1
            free = [cell for cell in range(1, 10) if cell not in held] + [c for c in sorted(held) if c not in layout]
            for item, cell in zip(sorted(want.elements()), free, strict=False):
                layout[cell] = item
            yield layout
        return
    for row, column in recipe.possible_kernel_positions():
        layout, stock, open_cells = {}, total.copy(), []
        for i, line in enumerate(recipe.kernel):
            for j, ids in enumerate(line):
                items = sorted(item for item in map(id_to_item, ids) if item is not None)
                cell = (row + i) * 3 + column + j + 1
                if not items:
                    continue
                if held.get(cell) in items:
                    layout[cell] = held[cell]
                    stock[held[cell]] -= 1
                else:
                    open_cells.append((cell, items))
        for cell, items in sorted(open_cells, key=lambda entry: len(entry[1])):
            item = max(items, key=lambda name: stock[name])
            if stock[item] <= 0:
                break
            layout[cell] = item
            stock[item] -= 1
        else:
            yield layout


def verify(turn: Turn, action: Action) -> Verdict:
    """Execute the action in the restored state; pass when fewer moves remain."""
    observation = next((m.content for m in reversed(turn.context) if m.role == "user"), None)
    metadata = turn.trajectory.metadata
    if observation is None or "path" not in metadata:
        return Verdict.unknown("not_a_plancraft_turn")
    try:
        target, inventory = parse_observation(observation)
    except ValueError as error:
        return Verdict.unknown("state_not_restored", error=str(error))
    parsed = parse_action(action.content or "")
    if isinstance(parsed, str):
        return Verdict.failed("not_an_action")
    if isinstance(parsed, StopAction):
        return Verdict.passed("impossible") if metadata.get("impossible") else Verdict.failed("gave_up")
    if metadata.get("impossible"):
        return Verdict.failed("task_is_impossible")
    table = CraftingTable(inventory)
    path = tuple(metadata["path"])
    before = remaining_moves(table.state, target, path)
    if before is None:
        return Verdict.unknown("no_plan_from_state")
    state_before = {slot: dict(item) for slot, item in table.state.items()}
    table.apply(parsed)
    if table.state == state_before:
        return Verdict.failed("no_effect")
    after = remaining_moves(table.state, target, path)
    if after is not None and after < before:
        return Verdict.passed("nearer", before=before, after=after)
    return Verdict.failed("not_nearer", before=before, after=after if after is not None else "unreachable")
