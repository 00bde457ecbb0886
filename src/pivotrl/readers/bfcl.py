"""Expert trajectories of BFCL multi-turn: the ground-truth calls, made in the environment so that results are real."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from pivotrl.environments.bfcl import MAX_TURNS, Tools, make_environments
from pivotrl.options import AtLeast0, AtLeast1
from pivotrl.protocols import Observation
from pivotrl.reading.formats.bfcl import calls_as_text
from pivotrl.records import Action, Message, Refusal, ToolCall, Trajectory


def read(
    path: Path,
    *,
    skip: AtLeast0 = 0,
    first: AtLeast1 | None = None,
    tasks: Sequence[str] | None = None,
    tools: Tools = "json",
    last_message: str = "Done.",
    unable_message: str = "Something that I need for this is missing.",
) -> Iterator[Trajectory | Refusal]:
    """One trajectory per task of a category, with one call per turn (two where a request needs more than 20 calls).
    Ground truth that fails is refused.

    Args:
        path: the category: ``base``, ``miss_param``, ``miss_func`` or ``long_context``.
        skip, first, tasks, tools: as for the environment.
        last_message: what the expert says when a request is fulfilled.
        unable_message: what it says when a request cannot be fulfilled yet.
    """
    environments = make_environments(category=str(path), skip=skip, first=first, tasks=tasks, tools=tools)
    for name in environments.tasks():
        environment = environments.make(name)
        messages, observation = list(environment.reset()), Observation(())
        while not observation.done:
            calls = environment.truth.calls
            actions = [
                *_actions(calls, tools, len(messages)),
                Action(content=last_message if calls else unable_message),
            ]
            while actions and not observation.done:
                action = actions.pop(0)
                messages.append(Message(role="assistant", content=action.content, tool_calls=action.tool_calls))
                observation = environment.step(action)
                messages += observation.messages
        if observation.reward != 1.0:
            yield Refusal(place=name, reason=f"the ground truth fails: {observation.reason}")
            continue
        yield Trajectory(
            id=f"bfcl-{name}",
            task_id=name,
            messages=tuple(messages),
            tools=environment.tools,
            reward=observation.reward,
            metadata={"domain": "bfcl", **environment.tags},
        )


def _actions(calls: Sequence[ToolCall], tools: Tools, place: int) -> Iterator[Action]:
    """One call each, or several where a request needs more calls than it may take turns."""
    size = max(1, math.ceil(len(calls) / MAX_TURNS))
    named = [call.model_copy(update={"id": f"call_{place}_{number}"}) for number, call in enumerate(calls)]
    for start in range(0, len(calls), size):
        some = tuple(named[start : start + size])
        yield Action(content=calls_as_text(some)) if tools == "signatures" else Action(tool_calls=some)
