"""Shell tasks: a prompt, a directory of files, and one tool, ``bash``, whose commands run in a sandbox.

A task is a folder, ours (:mod:`pivotrl.reading.formats.shell_tasks`) or Harbor's
(:mod:`pivotrl.reading.formats.harbor_tasks`). Commands share files but no process: each runs in a new shell that starts
in the work directory.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pivotrl.environments.shell.harbor import HarborShellTask
from pivotrl.environments.shell.task import ShellTask
from pivotrl.environments.shell.terminus import TerminusTask
from pivotrl.judging.replay import replayed
from pivotrl.options import AtLeast1, Positive
from pivotrl.protocols import InputError, Notice, NotRestorable, Turn
from pivotrl.reading.formats.harbor_tasks import load_harbor_tasks
from pivotrl.reading.formats.shell_tasks import load_tasks
from pivotrl.records import Refusal
from pivotrl.sandbox import Limits, open_sandbox
from pivotrl.sandbox.work_dir import BASH

__all__ = ["BASH", "TASKS", "ShellTask", "ShellTasks", "TerminusTask", "make_environments", "restore"]

TASKS = Path(__file__).parent / "tasks"
"""The built-in tasks, in Harbor's layout."""
Protocol = Literal["bash", "terminus"]
Maker = Callable[[Limits, int], ShellTask]


class ShellTasks:
    """The tasks under a folder. For the other arguments see :class:`pivotrl.environments.shell.task.ShellTask`."""

    def __init__(
        self, makers: dict[str, Maker], refused: list[Refusal], protocol: Protocol, limits: Limits, max_turns: int
    ) -> None:
        self.refused = refused
        self._makers, self._protocol, self._limits, self._max_turns = makers, protocol, limits, max_turns

    def tasks(self) -> list[str]:
        return list(self._makers)

    def make(self, task: str) -> ShellTask | TerminusTask:
        made = self._makers[task](self._limits, self._max_turns)
        return TerminusTask(made) if self._protocol == "terminus" else made


def make_environments(
    *,
    root: str | None = None,
    protocol: Protocol = "bash",
    backend: str = "bwrap",
    command_seconds: Positive = 5.0,
    max_turns: AtLeast1 = 30,
) -> ShellTasks:
    """The tasks under a folder, for episode evaluation.

    Args:
        root: the folder that holds the task folders; None: the built-in tasks.
        protocol: bash: a tool runs commands. terminus: the agent answers with JSON, as Terminus 2 does.
        backend: sandbox backend.
        command_seconds: time limit of a command.
        max_turns: as in :class:`pivotrl.environments.shell.task.ShellTask`.

    Raises:
        InputError: there are no tasks that can be played here, or the sandbox cannot be used.
    """
    makers, refused = _tasks(str(root or TASKS), backend)
    if not makers:
        raise InputError(f"no task below {root} can be played here: {refused[0].place}: {refused[0].reason}")
    if refused:
        num_all, first = len(refused) + len(makers), f"{refused[0].place}: {refused[0].reason}"
        text = f"{len(refused)} of {num_all} tasks below {root} cannot be played here; the first: {first}"
        warnings.warn(Notice(text), stacklevel=2)
    return ShellTasks(makers, refused, protocol, Limits(wall_seconds=command_seconds), max_turns)


def restore(
    turn: Turn,
    *,
    root: str | None = None,
    protocol: Protocol = "bash",
    backend: str = "bwrap",
    command_seconds: float = 5.0,
    max_turns: int = 30,
) -> ShellTask | TerminusTask:
    """The task after replaying the commands before the turn. For options see :func:`make_environments`.

    Raises:
        NotRestorable: ``unknown_task``; ``replay_differs``: an output differs from the logged one outside the task's
            volatile parts; ``sandbox_failed``.
        InputError: ``root`` holds no tasks, or the sandbox cannot be used.
    """
    makers, _ = _tasks(str(root or TASKS), backend)
    if turn.trajectory.task_id not in makers:
        raise NotRestorable("unknown_task", turn.trajectory.task_id)
    limits = Limits(wall_seconds=command_seconds)
    environment = ShellTasks(makers, [], protocol, limits, max_turns).make(turn.trajectory.task_id)
    return replayed(environment, turn)


@functools.cache
def _tasks(root: str, backend: str) -> tuple[dict[str, Maker], list[Refusal]]:
    """(task -> what makes it, tasks that cannot be played here)"""
    if any(Path(root).glob("*/task.json")):
        sandbox = open_sandbox(backend=backend)
        return {
            name: functools.partial(ShellTask, task, folder, sandbox)
            for name, (task, folder) in load_tasks(root).items()
        }, []
    found, refused = load_harbor_tasks(root)
    return {name: functools.partial(HarborShellTask.of, task, backend) for name, task in found.items()}, refused
