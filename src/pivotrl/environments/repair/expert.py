"""A scripted expert of repair tasks: it finds the function, reproduces the issue, looks, edits, tests and submits.

It knows the repair, and acts as someone who found it out by looking.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

from pivotrl.environments.repair.tasks import RepairRow, RepairTask
from pivotrl.environments.repair.texts import PACKAGE
from pivotrl.records import Action, ToolCall
from pivotrl.sandbox.repositories.editor import WORK_DIR
from pivotrl.sandbox.repositories.task import SUBMITTED, Manner


def expert_actions(task: RepairTask, folder: Path, manner: Manner) -> list[Action]:
    """The actions that solve a task; ``folder`` is that of the task."""
    steps = list(_steps(task, (folder / "files" / task.repairs[0].path).read_text("utf-8"), manner))
    return [
        Action(content=thought, tool_calls=(ToolCall(name=name, arguments=json.dumps(arguments), id=f"call_{number}"),))
        for number, (thought, name, arguments) in enumerate(steps)
    ]


def _steps(task: RepairTask, text: str, manner: Manner) -> Iterator[tuple[str, str, dict[str, object]]]:
    """(thought, tool, arguments)"""
    path = task.repairs[0].path
    program = f"from {PACKAGE}.{task.module} import {task.function}\nprint(repr({task.example}))"
    reproduce = f"python3 -c {shlex.quote(program)}"
    yield "First I look for the function.", "bash", {"command": f"grep -rn 'def {task.function}' {PACKAGE}"}
    yield "I reproduce the issue.", "bash", {"command": reproduce}
    if manner == "tools":
        yield "Now I read the file.", "str_replace_editor", {"command": "view", "path": f"{WORK_DIR}/{path}"}
    else:
        yield "Now I read the file.", "bash", {"command": f"cat {path}"}
    for number, repair in enumerate(task.repairs):
        thought = "This part is wrong, so I change it." if not number else "There is another mistake above it."
        if manner == "tools":
            old, new = _unique(text, repair)
            arguments: dict[str, object] = {
                "command": "str_replace",
                "path": f"{WORK_DIR}/{path}",
                "old_str": old,
                "new_str": new,
            }
            yield thought, "str_replace_editor", arguments
        else:
            yield thought, "bash", {"command": _sed(repair)}
        text = _repaired(text, repair)
    yield "I run the call of the issue again.", "bash", {"command": reproduce}
    yield "I run the tests.", "bash", {"command": "python3 -m unittest"}
    if manner == "tools":
        yield "The issue is solved and the tests pass.", "submit", {}
    else:
        yield "The issue is solved and the tests pass.", "bash", {"command": f"echo {SUBMITTED}"}


def _repaired(text: str, repair: RepairRow) -> str:
    lines, first = text.split("\n"), repair.first_line - 1
    lines[first : first + len(repair.old.split("\n"))] = repair.new.split("\n")
    return "\n".join(lines)


def _unique(text: str, repair: RepairRow) -> tuple[str, str]:
    """The old and the new lines, with as many lines before them as make the old ones unique in the file."""
    lines, old, new = text.split("\n"), repair.old, repair.new
    for number in range(repair.first_line - 2, -1, -1):
        if text.count(old) == 1:
            break
        old, new = f"{lines[number]}\n{old}", f"{lines[number]}\n{new}"
    return old, new


def _sed(repair: RepairRow) -> str:
    last = repair.first_line + repair.old.count("\n")
    place = f"{repair.first_line}" if last == repair.first_line else f"{repair.first_line},{last}"
    lines = repair.new.replace("\\", "\\\\").replace("\n", "\\\n")
    script = f"{place}c\\\n{lines}"
    return f"sed -i {shlex.quote(script)} {repair.path}"
