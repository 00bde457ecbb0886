"""Expert trajectories of shell tasks: the commands in each ``task.json``, or in Harbor's ``solve.sh``, are really run.

They are recorded as an agent with a tool would have run them, or as Terminus 2 would have typed them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pivotrl.environments.shell import BASH, TASKS, ShellTasks, TerminusTask, make_environments
from pivotrl.options import Positive
from pivotrl.protocols import Observation
from pivotrl.reading.formats.harbor_tasks import commands_of, is_whole_command, load_harbor_tasks
from pivotrl.reading.formats.shell_tasks import load_tasks
from pivotrl.records import Action, Message, Refusal, ToolCall, Trajectory

BUILT_IN = "tasks"
"""Names the built-in tasks where a path is asked for."""


def read(
    path: Path,
    *,
    protocol: Literal["bash", "terminus"] = "bash",
    backend: str = "bwrap",
    command_seconds: Positive = 5.0,
    last_message: str = "Done.",
) -> Iterator[Trajectory | Refusal]:
    """One trajectory per task with expert commands; the check gives its reward.

    An expert whose commands do not solve the task, or do not all run, is refused; so is a task that cannot be played
    without docker. Commands of a ``solve.sh`` are its parts between empty lines; if they do not solve the task, the
    whole script is one command.

    Args:
        path: the folder above those of the tasks; ``tasks`` names the built-in ones, where there is no such folder.
        protocol: bash: calls of a tool. terminus: JSON with keystrokes, as Terminus 2 writes.
        backend, command_seconds: as for the environment.
        last_message: what the expert says at the end.
    """
    root = str(TASKS) if str(path) == BUILT_IN and not path.exists() else str(path)
    scripts, refused = _scripts(root)
    yield from refused
    if not scripts:
        return
    environments = make_environments(
        root=root, protocol=protocol, backend=backend, command_seconds=command_seconds, max_turns=1_000
    )
    for task, (place, choices) in scripts.items():
        results = (_played(environments, task, commands, place, last_message) for commands in choices)
        result: Trajectory | Refusal | None = None
        for result in results:
            if isinstance(result, Trajectory):
                break
        if result is not None:
            yield result


def _scripts(root: str) -> tuple[dict[str, tuple[str, list[Sequence[str]]]], list[Refusal]]:
    """(task -> its folder and the ways to play its expert, tasks that cannot be played here)"""
    if any(Path(root).glob("*/task.json")):
        known = load_tasks(root).values()
        return {task.id: (str(folder), [task.expert]) for task, folder in known if task.expert}, []
    found, refused = load_harbor_tasks(root)
    scripts: dict[str, tuple[str, list[Sequence[str]]]] = {}
    for name, harbor in found.items():
        if (script := harbor.solution) is not None:
            whole = script.partition("\n")[2] if script.startswith("#!") else script
            scripts[name] = str(harbor.folder), [commands_of(script, is_whole_command), [whole.strip("\n")]]
    return scripts, refused


def _played(
    environments: ShellTasks, name: str, commands: Sequence[str], place: str, last_message: str
) -> Trajectory | Refusal:
    environment = environments.make(name)
    is_terminus = isinstance(environment, TerminusTask)
    answers = [_answer(command, number) for number, command in enumerate(commands)]
    actions = _as_terminus(commands) if is_terminus else [*answers, Action(content=last_message)]
    messages, observation, fault = list(environment.reset()), Observation(()), ""
    try:
        for action in actions:
            messages.append(Message(role="assistant", content=action.content, tool_calls=action.tool_calls))
            observation = environment.step(action)
            messages += observation.messages
            fault = fault or (observation.fault if not observation.done else "")
            if observation.done:
                break
    finally:
        environment.close()
    if fault or observation.reward not in (None, 1.0):
        return Refusal(place=place, reason=fault or f"the expert's reward is {observation.reward}")
    while messages[-1].role != "assistant":
        messages.pop()
    return Trajectory(
        id=f"shell-{name}",
        task_id=name,
        messages=tuple(messages),
        tools=() if is_terminus else BASH_ALONE,
        reward=observation.reward,
        metadata={"domain": "shell"},
    )


BASH_ALONE = (BASH,)


def _answer(command: str, number: int) -> Action:
    call = ToolCall(name="bash", arguments=json.dumps({"command": command}), id=f"call_{number}")
    return Action(tool_calls=(call,))


def _as_terminus(commands: Sequence[str]) -> list[Action]:
    """A turn for each command, then the end, said twice."""
    turns = [([{"keystrokes": f"{command}\n", "duration": 1.0}], False) for command in commands]
    answers = []
    for keys, is_done in (*turns, ([], True), ([], True)):
        answer = {"analysis": "", "plan": "", "commands": keys, "task_complete": is_done}
        answers.append(Action(content=json.dumps(answer, indent=2)))
    return answers
