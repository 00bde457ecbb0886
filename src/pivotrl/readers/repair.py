"""Expert trajectories of repair tasks: a scripted expert really solves each task in the sandbox."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from pivotrl.environments.repair import make_environments
from pivotrl.environments.repair.expert import expert_actions
from pivotrl.environments.repair.repairing import Repair
from pivotrl.options import AtLeast1, Positive
from pivotrl.protocols import InputError, Observation
from pivotrl.records import Message, Refusal, Trajectory
from pivotrl.sandbox.repositories.task import Manner

_RANGE = re.compile(r"(\d{1,6})-(\d{1,6})")


def read(
    path: Path,
    *,
    levels: str = "1,2,3",
    variants: AtLeast1 = 1,
    manner: Manner = "tools",
    backend: str = "bwrap",
    command_seconds: Positive = 5.0,
    problems: str | None = None,
    tasks: str | None = None,
    folder: str | None = None,
) -> Iterator[Trajectory | Refusal]:
    """One solved task per trajectory; a task that the expert does not solve is refused.

    Args:
        path: numbers of the problems, first and last, such as ``0-79``.
        levels, variants, manner, backend, command_seconds, problems, tasks, folder: as for the environment.

    Raises:
        InputError: ``path`` is no range, or as for the environment.
    """
    found = _RANGE.fullmatch(str(path))
    if found is None:
        raise InputError(f"repair: {path} is not a range of problems, such as 0-79")
    environments = make_environments(
        first=int(found[1]),
        last=int(found[2]),
        levels=levels,
        variants=variants,
        manner=manner,
        backend=backend,
        command_seconds=command_seconds,
        problems=problems,
        tasks=tasks,
        folder=folder,
    )
    for name in environments.tasks():
        with closing(environments.make(name)) as environment:
            yield _solved(environment, manner)


def _solved(environment: Repair, manner: Manner) -> Trajectory | Refusal:
    messages, observation = list(environment.reset()), Observation(())
    for action in expert_actions(environment.repair, environment.folder, manner):
        messages.append(Message(role="assistant", content=action.content, tool_calls=action.tool_calls))
        observation = environment.step(action)
        messages += observation.messages
    if observation.reward != 1.0:
        reason = f"the expert's reward is {observation.reward} ({observation.reason or 'not submitted'})"
        return Refusal(place=environment.task_id, reason=reason)
    return Trajectory(
        id=f"{environment.task_id}-{manner}",
        task_id=environment.task_id,
        messages=tuple(messages),
        tools=environment.tools,
        reward=1.0,
        metadata=environment.metadata,
    )
