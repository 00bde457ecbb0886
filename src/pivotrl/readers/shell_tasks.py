"""Expert trajectories of shell tasks: the commands in each ``task.json`` are really run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pivotrl.environments.shell import BASH, make_environments
from pivotrl.options import Positive
from pivotrl.protocols import Observation
from pivotrl.reading.formats.shell_tasks import load_tasks
from pivotrl.records import Action, Message, Refusal, ToolCall, Trajectory


def read(
    path: Path, *, backend: str = "bwrap", command_seconds: Positive = 5.0, last_message: str = "Done."
) -> Iterator[Trajectory | Refusal]:
    """One trajectory per task with expert commands; the check gives its reward.

    An expert whose commands do not solve the task, or do not all run, is refused.

    Args:
        path: the folder above those of the tasks.
        backend, command_seconds: as for the environment.
        last_message: what the expert says at the end.
    """
    environments = make_environments(root=str(path), backend=backend, command_seconds=command_seconds)
    for task, folder in load_tasks(path).values():
        if not task.expert:
            continue
        environment = environments.make(task.id)
        messages = list(environment.reset())
        observation, fault = Observation(()), ""
        for number, command in enumerate(task.expert):
            call = ToolCall(name="bash", arguments=json.dumps({"command": command}), id=f"call_{number}")
            messages.append(Message(role="assistant", tool_calls=(call,)))
            observation = environment.step(Action(tool_calls=(call,)))
            messages += observation.messages
            fault = fault or observation.fault
        if not observation.done:
            messages.append(Message(role="assistant", content=last_message))
            observation = environment.step(Action(content=last_message))
        environment.close()
        if fault or observation.reward not in (None, 1.0):
            yield Refusal(place=str(folder), reason=fault or f"the expert's reward is {observation.reward}")
            continue
        yield Trajectory(
            id=f"shell-{task.id}",
            task_id=task.id,
            messages=tuple(messages),
            tools=(BASH,),
            reward=observation.reward,
            metadata={"domain": "shell"},
        )
