"""Demonstrations of Errands by four kinds of players, who all fulfil their tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pivotrl.environments.errands import ErrandsTask, task_names
from pivotrl.environments.errands.planner import best_moves
from pivotrl.environments.errands.words import Move
from pivotrl.environments.errands.world import UNKNOWN, View, World
from pivotrl.options import AtLeast0, AtLeast1
from pivotrl.records import Action, Message, Refusal, Trajectory

Demonstrator = Literal["near", "far", "detours", "privileged"]

_FAR_VERBS = {"go": "head to", "take": "fetch", "put": "set down", "ask": "locate"}


def read(
    path: Path,
    *,
    demonstrator: Literal["near", "far", "detours", "privileged"] = "near",
    first: AtLeast0 = 0,
    tasks: AtLeast1 = 128,
    limit: Literal["tight", "loose"] = "loose",
    min_goals: AtLeast1 = 1,
    max_goals: AtLeast1 = 2,
    context_window: AtLeast1 | None = 1,
) -> Iterator[Trajectory | Refusal]:
    """Play tasks of a split; ``path`` is its name: train, val or test.

    Args:
        demonstrator: ``near``: best moves, each a bare command in the commonest wording. ``far``: the same decisions
            with a thought before each, in another wording, as JSON. ``detours``: before each best move it takes what
            lies about, which brings nothing. ``privileged``: it knows where everything is and never asks.
        first, tasks, limit, min_goals, max_goals, context_window: as for the environment. A ``detours`` player may
            miss a tight limit, which is then a refusal.

    Raises:
        InputError: there are no such tasks.
    """
    split: Any = str(path)
    for name in task_names(split, first, tasks, limit, min_goals, max_goals):
        environment = ErrandsTask(name, context_window)
        messages, reward = list(environment.reset()), None
        while reward is None:
            content = _written(demonstrator, environment.world)
            observation = environment.step(Action(content=content))
            messages += [Message(role="assistant", content=content), *observation.messages]
            reward = observation.reward
        if reward != 1.0:
            yield Refusal(place=name, reason="the player does not fulfil the task within its limit of moves")
            continue
        yield Trajectory(
            id=f"{name}-{demonstrator}",
            task_id=name,
            messages=tuple(messages),
            reward=reward,
            context_window=context_window,
            metadata={"domain": "errands", "demonstrator": demonstrator},
        )


def _written(demonstrator: Demonstrator, world: World) -> str:
    view = world.view()
    if demonstrator == "detours" and (useless := lying_about(view)):
        return Move("take", useless[0]).text
    if demonstrator == "privileged":
        return best_moves(_knowing_all(world))[0].text
    move = best_moves(view)[0]
    return far_style(view, move) if demonstrator == "far" else move.text


def lying_about(view: View) -> list[str]:
    """What lies here and is not needed."""
    needed = {goal.thing for goal in view.goals}
    return [thing for thing in view.here if thing not in needed]


def _knowing_all(world: World) -> View:
    known = World(world.task, world.left)
    known.room, known.places, known.seen = world.room, world.places, world.seen
    known.known = set(world.places)
    return known.view()


def far_style(view: View, move: Move) -> str:
    """A thought of 15 to 30 tokens, then the command as JSON."""
    goal = next((goal for goal in view.goals if goal.thing == move.what), view.goals[0])
    where = "nobody has told me where it is" if goal.place == UNKNOWN else f"I see that it is {goal.place}"
    thought = (
        f"My errand is the {goal.thing} for the {goal.target}, {where}, so my next step must be about {move.what}."
    )
    return f"{thought}\n{json.dumps({'action': _FAR_VERBS[move.verb], 'object': move.what})}"
