"""Repair tasks: a small repository with defects, an issue made from a failing call, and hidden tests.

A task's name says what it is: ``he12-d2-0`` is problem 12 with 2 defects, the first of such tasks. ``tasks.jsonl``
holds the defects of each, which the hidden tests were seen to catch (``recipes/repair_tasks.py``); everything else
follows from the name.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import hashlib
import math
import os
import random
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from pivotrl.environments.repair import texts
from pivotrl.environments.repair.hidden_tests import Answer, HiddenTest, answers_of, right_answers
from pivotrl.environments.repair.mutation import Defect, with_defects
from pivotrl.environments.repair.problems import Problem
from pivotrl.environments.repair.texts import PACKAGE, Module
from pivotrl.protocols import InputError
from pivotrl.records import Record
from pivotrl.sandbox import Sandbox
from pivotrl.storage.record_files import validation_message

_NUM_MODULES = 3
_PER_MODULE = 2
_MODULES = ("basics", "extras", "helpers", "misc", "parts", "pieces", "recipes", "routines", "shelf", "things")
_VERSION = 1
"""Of what a task becomes; another one does not use what an older one left in the cache."""
_MAX_SHOWN = 400
"""Characters of a call that an issue or a visible test shows."""
_NAME = re.compile(r"he(\d{1,6})-d([1-9])-(\d{1,6})")


class Row(Record):
    """A line of ``tasks.jsonl``."""

    id: str
    defects: tuple[tuple[int, int, str, str], ...]
    """Start and end in bytes of the problem's source, what stands there instead, and the kind of the change."""

    @property
    def problem(self) -> int:
        return _fields(self.id)[0]

    @property
    def level(self) -> int:
        return _fields(self.id)[1]

    @property
    def variant(self) -> int:
        return _fields(self.id)[2]


class RepairRow(Record):
    """What the expert changes: a file, and the text of lines in it before and after."""

    path: str
    first_line: int
    """Counts from 1."""
    old: str
    new: str


class RepairTask(Record):
    """A task as it is kept in the cache, beside the folder ``files``."""

    id: str
    level: int
    kinds: tuple[str, ...]
    function: str
    module: str
    issue: str
    example: str
    """A call that shows the defect, as an expression."""
    repairs: tuple[RepairRow, ...]
    hidden: tuple[HiddenTest, ...]
    """The function with the defects first, then all others: what passed before must still pass."""


@functools.cache
def load_rows(path: str | None = None) -> dict[str, Row]:
    """The tasks that there are, by name.

    Raises:
        InputError: the file is missing or malformed.
    """
    file = Path(path) if path else Path(__file__).with_name("tasks.jsonl")
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as a list of repair tasks: {error}") from error
    rows = {}
    for number, line in enumerate(lines, start=1):
        try:
            row = Row.model_validate_json(line)
            _fields(row.id)
        except (ValidationError, ValueError) as error:
            text = validation_message(error) if isinstance(error, ValidationError) else str(error)
            raise InputError(f"{file}:{number}: {text}") from error
        rows[row.id] = row
    if not rows:
        raise InputError(f"{file} holds no tasks; recipes/repair_tasks.py makes them")
    return rows


def _fields(name: str) -> tuple[int, int, int]:
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!r:.80} is not the name of a repair task, such as he12-d2-0")
    return int(found[1]), int(found[2]), int(found[3])


def made_task(
    row: Row, problems: Sequence[Problem], sandbox: Sandbox, folder: str | None = None
) -> tuple[RepairTask, Path]:
    """(the task, its folder), from the cache or made now, which takes a fraction of a second.

    Raises:
        InputError: the row does not go with these problems, or the cache cannot be written.
        SandboxFault: the sandbox failed.
    """
    if row.problem >= len(problems):
        raise InputError(f"task {row.id}: there are only {len(problems)} problems; give the file that it was made from")
    key = repr((_VERSION, row, hashlib.sha256(repr(problems).encode()).hexdigest()))
    cache = Path(os.environ.get("PIVOTRL_CACHE") or Path.home() / ".cache" / "pivotrl")
    place = Path(folder or cache / "repair") / f"{row.id}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if not (place / "task.json").is_file():
        task, files = assemble(row, problems, sandbox)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{row.id}.", dir=place.parent) as scratch:
                made = Path(scratch, "task")
                _write(made / "files", files)
                (made / "task.json").write_text(task.model_dump_json(), "utf-8")
                with contextlib.suppress(OSError):  # another process was faster; its task is the same
                    made.rename(place)
        except OSError as error:
            raise InputError(f"{place.parent}: the task cannot be written ({error}); name another folder") from error
    return RepairTask.model_validate_json((place / "task.json").read_bytes()), place


def assemble(row: Row, problems: Sequence[Problem], sandbox: Sandbox) -> tuple[RepairTask, dict[str, str]]:
    """(the task, path -> content of its repository)

    Raises:
        InputError: the defects do not change what the function answers, so there is no issue to write.
        SandboxFault: the sandbox failed.
    """
    draw = random.Random(row.id)  # noqa: S311
    target = problems[row.problem]
    defects = [Defect(*values) for values in row.defects]
    modules = _modules(target, problems, draw)
    chosen = [problem for module in modules for problem in module.problems]
    answers = dict(zip([p.number for p in chosen], right_answers(sandbox, chosen), strict=True))
    tests = {
        problem.number: HiddenTest(
            module=f"{PACKAGE}.{module.name}",
            name=problem.entry_point,
            source=problem.source,
            test=problem.test,
            answers=answers[problem.number],
        )
        for module in modules
        for problem in module.problems
    }
    hidden = (tests[target.number], *(test for number, test in tests.items() if number != target.number))
    right = {f"{PACKAGE}/{module.name}.py": _text(module) for module in modules}
    broken = with_defects(target.source, defects)
    home = next(module for module in modules if target in module.problems)
    path = f"{PACKAGE}/{home.name}.py"
    sources = {f"{PACKAGE}/__init__.py": "", **right, path: right[path].replace(target.source, broken)}
    given = _answers(sandbox, sources, hidden[:1])
    failing = _failing(hidden[0], given)
    if not failing:
        raise InputError(f"task {row.id}: its defects change no answer that an issue could show")
    shown = failing[: row.level]
    visible = {number: _kept(tests[number], given if number == target.number else None) for number in tests}
    files = {"README.md": texts.readme(modules), **sources, "tests/__init__.py": ""}
    files |= {f"tests/test_{module.name}.py": texts.visible_tests(module, visible) for module in modules}
    task = RepairTask(
        id=row.id,
        level=row.level,
        kinds=tuple(defect.kind for defect in defects),
        function=target.entry_point,
        module=home.name,
        issue=texts.issue(hidden[0], shown, draw),
        example=texts.call(hidden[0], shown[0][0]),
        repairs=_repairs(path, sources[path], right[path]),
        hidden=hidden,
    )
    return task, files


def _modules(target: Problem, problems: Sequence[Problem], draw: random.Random) -> list[Module]:
    """The target among others that define none of its names."""
    chosen, taken = [target], set(target.names)
    for problem in draw.sample(problems, len(problems)):
        if len(chosen) == _NUM_MODULES * _PER_MODULE:
            break
        if taken.isdisjoint(problem.names) and problem.number != target.number:
            chosen.append(problem)
            taken |= problem.names
    draw.shuffle(chosen)
    names = draw.sample(_MODULES, _NUM_MODULES)
    return [Module(name, tuple(chosen[i * _PER_MODULE :][:_PER_MODULE])) for i, name in enumerate(names)]


def _text(module: Module) -> str:
    return "\n\n".join(problem.source for problem in module.problems)


def _answers(sandbox: Sandbox, files: dict[str, str], tests: Sequence[HiddenTest]) -> list[Answer]:
    with tempfile.TemporaryDirectory() as name:
        _write(Path(name), files)
        found = answers_of(sandbox, Path(name), tests)
    if isinstance(found, str) or found[0] is None:
        raise InputError(f"the function {tests[0].name} with its defects gives no answers: {found}")
    return found[0]


def _write(folder: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, "utf-8")


def _failing(test: HiddenTest, given: Sequence[Answer]) -> list[tuple[str, Answer]]:
    """(arguments, what came) of the calls that show the defect, the shortest first."""
    found = [
        (call, answer)
        for (call, wanted), answer in zip(test.answers.items(), given, strict=True)
        if not _same(wanted, answer) and len(call) + len(wanted) + len(answer[1]) <= _MAX_SHOWN
    ]
    return sorted(found, key=lambda item: (len(item[0]) + len(item[1][1]), item[0]))


def _same(wanted: str, answer: Answer) -> bool:
    if answer[0] != "value":
        return False
    if answer[1] == wanted:
        return True
    try:
        one, other = ast.literal_eval(wanted), ast.literal_eval(answer[1])
    except (ValueError, SyntaxError):
        return False
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
    return bool(one == other)


def _kept(test: HiddenTest, given: Sequence[Answer] | None) -> list[tuple[str, str]]:
    """At most two (arguments, answer) that a visible test may show: short ones that the defects leave alone."""
    calls = list(test.answers.items())
    kept = [
        (call, wanted)
        for index, (call, wanted) in enumerate(calls)
        if (given is None or given[index] == ("value", wanted)) and len(call) + len(wanted) <= _MAX_SHOWN // 2
    ]
    return sorted(kept, key=lambda item: (len(item[0]) + len(item[1]), item))[:2]


def _repairs(path: str, broken: str, right: str) -> tuple[RepairRow, ...]:
    """The lines that differ, as few as there are, from the last to the first, so that the numbers stay true."""
    old, new = broken.splitlines(), right.splitlines()
    found = []
    for tag, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        if a == b or c == d:  # lines are missing: their neighbour says where they belong
            a, c = a - 1, c - 1
        found.append(RepairRow(path=path, first_line=a + 1, old="\n".join(old[a:b]), new="\n".join(new[c:d])))
    return tuple(reversed(found))
