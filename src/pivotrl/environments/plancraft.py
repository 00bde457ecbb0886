"""Plancraft (MIT): craft a Minecraft item from an inventory, one move per turn, text in and text out.

We use the published simulator, recipes and task splits unchanged, except that no picture is drawn at every step. An
observation holds the whole state, so any recorded turn can be restored exactly from its text.
"""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import plancraft
from plancraft.environment.actions import (
    ImpossibleActionHandler,
    MoveAction,
    MoveActionHandler,
    SmeltAction,
    SmeltActionHandler,
    StopAction,
    convert_from_slot_index,
    convert_to_slot_index,
)
from plancraft.environment.env import PlancraftEnvironment, target_and_inventory_to_text_obs
from plancraft.environment.recipes import RECIPES, ShapelessRecipe, SmeltingRecipe, id_to_item

from pivotrl.options import AtLeast1
from pivotrl.protocols import InputError, NotRestorable, Observation, Turn
from pivotrl.records import Action, Message

DATA = Path(plancraft.__path__[0]) / "data"
"""The published splits: train, val, test and their `.small` parts."""

_SLOT_LINE = re.compile(r"^ - (\w+) (\[\w+\]) quantity (\d+)$", re.MULTILINE)
_TARGET = re.compile(r"^Craft an item of type: (\w+)$", re.MULTILINE)

Inventory = dict[int, dict[str, Any]]


class _NoPicture:
    """Replaces the drawing surface, which the simulator calls at every change."""

    def clear(self) -> None: ...

    def add_item_to_slot(self, item: str, slot: int, quantity: int = 1) -> None: ...

    def remove_item_from_slot(self, slot: int) -> None: ...


class CraftingTable(PlancraftEnvironment):  # type: ignore[misc]
    """The published crafting rules on a plain dict ``{slot: {"type", "quantity"}}``; slot 0 is the output."""

    def __init__(self, inventory: Inventory) -> None:
        # The published constructor also loads a thousand images; the rest of it is here.
        self.table = _NoPicture()
        self.table_indexes = list(range(1, 10))
        self.output_index = 0
        self.recipes = RECIPES
        self.smelting_recipes = [recipe for _, recipe in _recipes_by_inputs() if isinstance(recipe, SmeltingRecipe)]
        self.crafting_recipes: list[Any] = []
        self.reset({slot: dict(item) for slot, item in inventory.items()})
        self.populate_craft_slot_craft_item()

    def populate_craft_slot_craft_item(self) -> None:
        # Only recipes that use every item on the grid can match; the published loop tries all of them.
        on_grid = {item["type"] for slot, item in self.state.items() if 1 <= slot <= 9}
        self.crafting_recipes = [
            recipe
            for inputs, recipe in _recipes_by_inputs()
            if on_grid and on_grid <= inputs and not isinstance(recipe, SmeltingRecipe)
        ]
        super().populate_craft_slot_craft_item()

    def apply(self, action: MoveAction | SmeltAction) -> None:
        if isinstance(action, MoveAction):
            self.move_item(action.slot_from, action.slot_to, action.quantity)
        else:
            self.smelt_item(action.slot_from, action.slot_to, action.quantity)
        self.clean_state()

    def holds(self, target: str) -> bool:
        """The benchmark's success test: the target lies in a slot other than the output."""
        return any(item["type"] == target and slot != 0 for slot, item in self.state.items())


@functools.cache
def recipes_for(item: str) -> tuple[Any, ...]:
    """The recipes of an item, in an order that does not depend on the file system."""
    return tuple(
        sorted(RECIPES.get(item, ()), key=lambda recipe: (recipe.recipe_type, sorted(map(str, recipe.inputs))))
    )


@functools.cache
def _recipes_by_inputs() -> tuple[tuple[frozenset[str], Any], ...]:
    return tuple((frozenset(recipe.inputs), recipe) for name in sorted(RECIPES) for recipe in recipes_for(name))


def recipe_text(item: str) -> str:
    """An answer of the benchmark's ``search`` action for an item.

    The benchmark samples one of the valid arrangements each time; we always take the one that starts in the upper
    left cell. If several ingredients are possible, the item's name determines which one.
    """
    lines = [f"Recipes to craft {item}:"]
    for number, recipe in enumerate(recipes_for(item), start=1):
        lines.append(f"recipe {number}:")
        if isinstance(recipe, SmeltingRecipe):
            lines.append("smelt " + " or ".join(sorted(recipe.ingredient)))
        else:
            lines += [f"{name} at {convert_from_slot_index(cell)}" for cell, name in _arrangement(recipe, item)]
    return "\n".join(lines)


def _arrangement(recipe: Any, seed: str) -> list[tuple[int, str]]:
    """(cell, ingredient) for one valid layout of a recipe, starting in the upper left cell."""
    generator = random.Random(seed)  # noqa: S311
    if isinstance(recipe, ShapelessRecipe):
        counts = generator.choice(recipe.ingredients)
        items = [item for item, count in sorted(counts.items()) for _ in range(count)]
        return list(enumerate(items, start=1))
    cells = []
    for row, line in enumerate(recipe.kernel):
        for column, ids in enumerate(line):
            item = id_to_item(generator.choice(sorted(ids)))
            if item is not None:
                cells.append((row * 3 + column + 1, item))
    return cells


def observation_text(target: str, inventory: Inventory, recipes: bool) -> str:
    text: str = target_and_inventory_to_text_obs(target, inventory)
    return f"{text}\n{recipe_text(target)}" if recipes else text


def parse_observation(text: str) -> tuple[str, Inventory]:
    """(target, inventory) of an observation.

    Raises:
        ValueError: the text is not a Plancraft observation.
    """
    target = _TARGET.search(text)
    if target is None:
        raise ValueError("the text holds no line 'Craft an item of type: ...'")
    slots = _SLOT_LINE.findall(text)
    return target.group(1), {
        convert_to_slot_index(slot): {"type": item, "quantity": int(quantity)} for item, slot, quantity in slots
    }


def parse_action(text: str) -> MoveAction | SmeltAction | StopAction | str:
    """The action in a text, by the benchmark's own parsers; a string is an error message."""
    for handler in (MoveActionHandler(), SmeltActionHandler(), ImpossibleActionHandler()):
        found = handler.match(text)
        if found:
            return found
    return "Only select actions from the following: move, smelt, impossible"


def load_tasks(
    split: str | Path,
    difficulty: Sequence[str] = ("easy",),
    distractors: Sequence[int] = (4, 8, 16),
    max_tasks: int | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Tasks of a published split (``train``, ``val``, ``test``, ...) or of a file in the same format.

    With ``max_tasks`` a seeded random subset is taken, in file order.

    Raises:
        InputError: the split or file does not exist, or no task fits.
    """
    path = DATA / f"{split}.json" if (DATA / f"{split}.json").is_file() else Path(split)
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in DATA.glob("*.json")))
        raise InputError(f"{split} is neither a Plancraft split ({known}) nor a file")
    try:
        tasks = json.loads(path.read_text())
        fitting = [t for t in tasks if t["complexity_split"] in difficulty and t["num_distractors"] in distractors]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a Plancraft task file: {error!r}") from error
    if not fitting:
        raise InputError(f"{path} has no task of difficulty {list(difficulty)} with {list(distractors)} distractors")
    if max_tasks is not None and max_tasks < len(fitting):
        chosen = sorted(random.Random(seed).sample(range(len(fitting)), max_tasks))  # noqa: S311
        fitting = [fitting[i] for i in chosen]
    for task in fitting:
        task["slotted_inventory"] = {int(slot): item for slot, item in task["slotted_inventory"].items()}
    return fitting


class PlancraftTask:
    """One task as an environment.

    Args:
        task: an entry of a split file.
        recipes: add the benchmark's ``search`` answer for the target to every observation.
        context_window: messages that the agent sees; 1 is the latest observation alone, which holds the whole state.
        max_turns: the episode fails after this number of actions (the benchmark's default is 30).
        stop_on_repeat: fail the episode when a state repeats. For a greedy policy that sees only the latest
            observation this changes no result: it would loop forever.
    """

    def __init__(
        self, task: dict[str, Any], recipes: bool, context_window: int | None, max_turns: int, stop_on_repeat: bool
    ) -> None:
        self.task_id: str = task["id"]
        self.tags = {"difficulty": task["complexity_split"], "distractors": str(task["num_distractors"])}
        self.metadata = {
            "target": task["target"],
            "impossible": task["impossible"],
            "path": list(task.get("optimal_path") or ()),
        }
        self.context_window = context_window
        self._task, self._recipes, self._max_turns, self._stop_on_repeat = task, recipes, max_turns, stop_on_repeat

    def reset(self) -> tuple[Message, ...]:
        self.table = CraftingTable(self._task["slotted_inventory"])
        self._num_turns = 0
        text = self._observe()
        self._seen = {text}
        return (Message(role="user", content=text),)

    def _observe(self) -> str:
        return observation_text(self._task["target"], self.table.state, self._recipes)

    def step(self, action: Action) -> Observation:
        self._num_turns += 1
        parsed = parse_action(action.content or "")
        if isinstance(parsed, StopAction):
            right = bool(self._task["impossible"])
            reason = "stopped_impossible_task" if right else "stopped_possible_task"
            return Observation((), reward=float(right), done=True, reason=reason)
        if isinstance(parsed, str):
            text = parsed
        else:
            self.table.apply(parsed)
            text = self._observe()
            if self.table.holds(self._task["target"]):
                return Observation((Message(role="user", content=text),), reward=1.0, done=True, reason="crafted")
        messages = (Message(role="user", content=text),)
        if self._stop_on_repeat and text in self._seen:
            return Observation(messages, reward=0.0, done=True, reason="repeated_state")
        self._seen.add(text)
        if self._num_turns >= self._max_turns:
            return Observation(messages, reward=0.0, done=True, reason="too_many_turns")
        return Observation(messages)

    def state(self) -> list[Any]:
        """The occupied slots, each as [slot, item, quantity]."""
        return sorted([slot, item["type"], item["quantity"]] for slot, item in self.table.state.items())

    def controls(self) -> Iterator[tuple[PlancraftTask, bool]]:
        return iter(())  # no move only looks at the state

    def close(self) -> None: ...


def restore(turn: Turn, *, max_turns: int = 30) -> PlancraftTask:
    """The task as the turn's agent saw it, restored from the observation alone. Earlier turns count towards
    ``max_turns``. States may repeat, since a policy that is not greedy can leave a loop.

    Raises:
        NotRestorable: ``not_a_plancraft_turn``: the observation or the trajectory's metadata is incomplete.
    """
    before, metadata = turn.trajectory.messages[: turn.index], turn.trajectory.metadata
    text = next((message.content or "" for message in reversed(before) if message.role == "user"), "")
    try:
        target, inventory = parse_observation(text)
        task = {
            **{"id": turn.trajectory.task_id, "target": target, "slotted_inventory": inventory},
            "impossible": metadata["impossible"],
            "optimal_path": metadata.get("path"),
            "complexity_split": metadata.get("difficulty"),
            "num_distractors": metadata.get("distractors"),
        }
    except (ValueError, KeyError) as error:
        raise NotRestorable("not_a_plancraft_turn", str(error)) from error
    shows_recipes = "\nRecipes to craft " in text
    environment = PlancraftTask(task, shows_recipes, turn.trajectory.context_window, max_turns, stop_on_repeat=False)
    environment.reset()
    environment._num_turns = sum(message.role == "assistant" for message in before)
    return environment


_PARTS = {"crafting": (1, 3, 3), "output": (0, 1, 1), "inventory": (10, 4, 9)}
"""Name of a grid -> (first slot, rows, columns)."""


def render_view(messages: Sequence[Message], metadata: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Crafting grid, output and inventory beside each observation."""
    found = {}
    for index, message in enumerate(messages):
        if message.role != "user":
            continue
        try:
            target, inventory = parse_observation(message.content or "")
        except ValueError:
            continue
        found[index] = {
            "kind": "grid",
            "title": f"Craft: {target}",
            "parts": [
                {
                    "name": name,
                    "rows": [
                        [_cell(inventory, first + row * columns + column) for column in range(columns)]
                        for row in range(rows)
                    ],
                }
                for name, (first, rows, columns) in _PARTS.items()
            ],
        }
    return found


def _cell(inventory: Inventory, slot: int) -> dict[str, Any] | None:
    item = inventory.get(slot)
    return item and {"item": item["type"], "count": item["quantity"]}


class PlancraftTasks:
    """The chosen tasks of a split. For options see :class:`PlancraftTask`."""

    def __init__(
        self,
        tasks: Sequence[dict[str, Any]],
        recipes: bool,
        context_window: int | None,
        max_turns: int,
        stop_on_repeat: bool,
    ) -> None:
        self._tasks = {str(task["id"]): task for task in tasks}
        self._options = (recipes, context_window, max_turns, stop_on_repeat)

    def tasks(self) -> list[str]:
        return list(self._tasks)

    def make(self, task: str) -> PlancraftTask:
        return PlancraftTask(self._tasks[task], *self._options)


def make_environments(
    *,
    split: str = "test",
    difficulty: Sequence[str] = ("easy",),
    distractors: Sequence[int] = (4,),
    max_tasks: AtLeast1 | None = None,
    seed: int = 0,
    recipes: bool = True,
    context_window: AtLeast1 | None = 1,
    max_turns: AtLeast1 = 30,
    stop_on_repeat: bool = True,
) -> PlancraftTasks:
    """Tasks of a published split, for episode evaluation."""
    tasks = load_tasks(split, difficulty, distractors, max_tasks, seed)
    return PlancraftTasks(tasks, recipes, context_window, max_turns, stop_on_repeat)
