"""Shell tasks on disk: a folder each, with ``task.json`` (:class:`Task`), ``files/`` with what the agent finds in its
work directory, and, where the check needs files that the agent must not see, ``check/``."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, ValidationError

from pivotrl.protocols import InputError
from pivotrl.records import Record
from pivotrl.storage.record_files import validation_message


class Check(Record):
    """A command that runs over the final files, in a session of its own, and passes by what is seen from outside.

    Code of the agent that it runs shares its process's fate and may forge an exit code; compare ``stdout`` with
    something it cannot know, or data files through ``expected_files``.
    """

    command: str
    exit_code: int = 0
    stdout: str | None = None
    """What it must print, to the letter; None: anything."""


class Task(Record):
    """``task.json``. The final reward is 1 when all of ``expected_files`` and ``check`` hold, else 0; None without
    either."""

    id: str
    prompt: str
    expected_files: dict[str, str | None] = Field(default_factory=dict)
    """Path -> final content; None: there must be no such file."""
    check: Check | None = None
    volatile: tuple[str, ...] = ()
    """Regular expressions for parts of outputs that differ from run to run, such as times; they are not compared."""
    expert: tuple[str, ...] = ()
    """Commands that solve the task; reader ``shell_tasks`` runs them. Never shown to an agent."""


def load_tasks(root: str | Path) -> dict[str, tuple[Task, Path]]:
    """{id: (task, its folder)} of every folder under ``root`` that holds a ``task.json``, in order of the folders.

    Raises:
        InputError: there is none, or one is invalid.
    """
    found: dict[str, tuple[Task, Path]] = {}
    for path in sorted(Path(root).glob("*/task.json")):
        try:
            task = Task.model_validate_json(path.read_bytes())
            for pattern in task.volatile:
                re.compile(pattern)
        except ValidationError as error:
            raise InputError(f"{path}: {validation_message(error)}") from error
        except re.error as error:
            raise InputError(f"{path}: volatile: {pattern!r} is not a regular expression: {error}") from error
        if task.id in found:
            raise InputError(f"{path}: the id {task.id!r} is also that of {found[task.id][1]}; ids must differ")
        found[task.id] = task, path.parent
    if not found:
        raise InputError(f"{root} holds no folder with a task.json; give the folder above those of the tasks")
    return found
