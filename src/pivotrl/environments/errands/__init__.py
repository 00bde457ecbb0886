"""Errands: bring things to rooms, one move per turn, text in and text out. Pure Python, microseconds a move.

An observation holds all that the agent knows: goals left, map, room, what lies here, what it holds, rooms not yet seen
and moves left. Some places are unknown until the agent sees the thing or spends a move to ask for it. The model
organism of the evidence plays it (recipes/evidence/micro).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal, get_args

from pivotrl.environments.errands.planner import best_moves
from pivotrl.environments.errands.words import Move, NoCommand, read_command
from pivotrl.environments.errands.world import Limit, Split, World, draw_task
from pivotrl.options import AtLeast0, AtLeast1
from pivotrl.protocols import InputError, NotRestorable, Observation, Turn
from pivotrl.records import Action, Message

_TASK_ID = re.compile(
    rf"errands-({'|'.join(get_args(Split))})-([0-9]{{1,9}})-([1-3])to([1-3])-({'|'.join(get_args(Limit))})"
)


def task_name(split: Split, number: int, limit: Limit, goals: tuple[int, int]) -> str:
    return f"errands-{split}-{number}-{goals[0]}to{goals[1]}-{limit}"


def begin(task_id: str) -> World:
    """The first state of a task. ``tight`` leaves one move more than a best plan needs; ``loose`` four more than
    twice as many.

    Raises:
        ValueError: there is no such task.
    """
    found = _TASK_ID.fullmatch(task_id)
    if found is None or found[3] > found[4]:
        raise ValueError(f"{task_id!r:.80} names no task of errands")
    split: Any = found[1]
    world = World(draw_task(split, int(found[2]), (int(found[3]), int(found[4]))), left=0)
    num_moves = len(expert_moves(world.task))
    world.left = num_moves + 1 if found[5] == "tight" else 2 * num_moves + 4
    return world


def expert_moves(task: Any) -> list[Move]:
    """The moves of a best player, who takes the first of equally good moves."""
    world, moves = World(task, left=0), []
    while not world.is_done:
        moves.append(best_moves(world.view())[0])
        world.do(moves[-1])
    return moves


def read_move(action: Action) -> Move | None:
    """The move that an action says; None if it says none, or several."""
    try:
        return read_command(action.content or "").move if not action.tool_calls else None
    except NoCommand:
        return None


class ErrandsTask:
    """One task as an environment.

    Args:
        task_id: as :func:`task_name` makes it.
        context_window: messages that the agent sees; 1 is the latest observation alone, which holds all it needs.
    """

    def __init__(self, task_id: str, context_window: int | None) -> None:
        self.task_id, self.context_window = task_id, context_window
        self.world = begin(task_id)
        self.tags = {"goals": str(len(self.world.task.goals))}

    def reset(self) -> tuple[Message, ...]:
        self.world = begin(self.task_id)
        return (self._message(),)

    def _message(self) -> Message:
        return Message(role="user", content=self.world.view().text)

    def step(self, action: Action) -> Observation:
        self.world.do(read_move(action))
        messages = (self._message(),)
        if self.world.is_done:
            return Observation(messages, reward=1.0, done=True, reason="done")
        if self.world.left <= 0:
            return Observation(messages, reward=0.0, done=True, reason="too_many_moves")
        return Observation(messages)

    def state(self) -> list[Any]:
        """[room, [thing, place] of all things, things whose place is known, rooms seen, moves left]"""
        world = self.world
        return [
            world.room,
            sorted(map(list, world.places.items())),
            sorted(world.known),
            sorted(world.seen),
            world.left,
        ]

    def controls(self) -> Iterator[tuple[ErrandsTask, bool]]:
        return iter(())  # a move that only looks tells nothing

    def close(self) -> None: ...


def restore(turn: Turn) -> ErrandsTask:
    """The task before the turn, restored by playing the recorded actions again.

    Raises:
        NotRestorable: ``not_an_errands_turn``: the trajectory's task is no task of errands.
            ``replay_differs``: the actions lead to another observation than the recorded one.
    """
    *before, last = turn.trajectory.messages[: turn.index] or (Message(role="user"),)
    try:
        environment = ErrandsTask(turn.trajectory.task_id, turn.trajectory.context_window)
    except ValueError as error:
        raise NotRestorable("not_an_errands_turn", str(error)) from error
    environment.reset()
    for message in before:
        if message.role == "assistant":
            environment.step(Action(content=message.content, tool_calls=message.tool_calls))
    if last.content != environment.world.view().text:
        raise NotRestorable("replay_differs", "the recorded actions lead to another observation")
    return environment


class ErrandsTasks:
    """Some tasks, by name."""

    def __init__(self, names: list[str], context_window: int | None) -> None:
        self._names, self._context_window = names, context_window

    def tasks(self) -> list[str]:
        return list(self._names)

    def make(self, task: str) -> ErrandsTask:
        return ErrandsTask(task, self._context_window)


def task_names(split: Split, first: int, tasks: int, limit: Limit, min_goals: int, max_goals: int) -> list[str]:
    """
    Raises:
        InputError: there are no such tasks.
    """
    if not 1 <= min_goals <= max_goals <= 3:
        raise InputError(f"min_goals and max_goals must be 1 to 3, in this order, not {min_goals} and {max_goals}")
    if split not in get_args(Split) or limit not in get_args(Limit):
        raise InputError(f"there are the splits {', '.join(get_args(Split))}, each tight or loose, not {split} {limit}")
    return [task_name(split, number, limit, (min_goals, max_goals)) for number in range(first, first + tasks)]


def make_environments(
    *,
    split: Literal["train", "val", "test", "population"] = "test",
    first: AtLeast0 = 0,
    tasks: AtLeast1 = 64,
    limit: Literal["tight", "loose"] = "loose",
    min_goals: AtLeast1 = 1,
    max_goals: AtLeast1 = 2,
    context_window: AtLeast1 | None = 1,
) -> ErrandsTasks:
    """Tasks ``first`` to ``first + tasks - 1`` of a split, with ``min_goals`` to ``max_goals`` things to bring."""
    return ErrandsTasks(task_names(split, first, tasks, limit, min_goals, max_goals), context_window)
