"""Hidden tests that the code under test cannot forge: it gives answers, and another process judges them.

The tests of HumanEval are Python that calls the function and asserts. Run beside the code of an agent they would share
its fate: the code could leave with exit code 0, print "passed", or return objects that equal everything. So a session
of its own calls the agent's functions with the arguments that the tests use (``answering.py``) and returns plain data;
then a session that holds no code of the agent runs the tests on these answers (``checking.py``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pivotrl.environments.repair.problems import Problem
from pivotrl.protocols import InputError
from pivotrl.records import Record
from pivotrl.sandbox import Limits, Sandbox

LIMITS = Limits(wall_seconds=10.0)
_PYTHON = ("/usr/bin/env", "LC_ALL=C.UTF-8", "PYTHONHASHSEED=0", "python3", "-I", "-B", "-c")
_ANSWERING, _CHECKING = (Path(__file__).with_name(name).read_text("utf-8") for name in ("answering.py", "checking.py"))
_MOST = 20
"""Answers longer than this many times the right ones, and 10,000 characters more, are wrong without a look."""

Answer = tuple[str, str]
"""(value, raised or not_plain; the Python literal, or what was raised)"""


class HiddenTest(Record):
    """The test of one function, and the calls that it makes."""

    module: str
    name: str
    source: str
    test: str
    answers: dict[str, str]
    """Arguments -> the right answer, as Python literals."""


@dataclass(frozen=True)
class Judgement:
    """Whether each test passes; None where there is no knowing, with a reason."""

    passed: tuple[bool, ...] | None
    reason: str = ""


def right_answers(sandbox: Sandbox, problems: Sequence[Problem]) -> list[dict[str, str]]:
    """Arguments -> answer, for each call that the test of each problem makes of the right function.

    Raises:
        InputError: a problem does not pass its own test, or takes too long, or Python is missing in the sandbox.
        SandboxFault: the sandbox failed.
    """
    rows = [{"source": each.source, "test": each.test, "name": each.entry_point} for each in problems]
    found = _printed(sandbox, None, _CHECKING, {"problems": rows})
    if not isinstance(found, list):
        names = ", ".join(f"{each.number} ({each.entry_point})" for each in problems)
        raise InputError(f"of the problems {names} one does not pass its own test in the sandbox: {found}")
    return found


def answers_of(
    sandbox: Sandbox, folder: Path, tests: Sequence[HiddenTest], limits: Limits = LIMITS
) -> list[list[Answer] | None] | str:
    """What the functions below ``folder`` answer to the calls of the tests, or why there are no answers.

    Raises:
        SandboxFault: the sandbox failed.
    """
    functions = [{"module": each.module, "name": each.name, "calls": list(each.answers)} for each in tests]
    found = _printed(sandbox, folder, _ANSWERING, {"functions": functions}, limits)
    if isinstance(found, str):
        return found
    if not isinstance(found, list) or len(found) != len(tests):
        return "answers_not_readable"
    return [_read(answers, test) for answers, test in zip(found, tests, strict=True)]


def judge(sandbox: Sandbox, folder: Path, tests: Sequence[HiddenTest]) -> Judgement:
    """Run the tests on the code below ``folder``.

    Raises:
        SandboxFault: the sandbox failed.
    """
    found = answers_of(sandbox, folder, tests)
    if isinstance(found, str):
        return Judgement((False,) * len(tests), found)
    return check(sandbox, tests, found)


def check(sandbox: Sandbox, tests: Sequence[HiddenTest], answers: Sequence[list[Answer] | None]) -> Judgement:
    """Whether each test passes on the answers; several lists of answers may belong to copies of one test.

    Raises:
        SandboxFault: the sandbox failed.
    """
    rows = []
    for test, given in zip(tests, answers, strict=True):
        pairs = zip(test.answers, given or (), strict=False)
        values = {call: text for call, (kind, text) in pairs if kind == "value"}
        rows.append({"source": test.source, "test": test.test, "name": test.name, "answers": values})
    found = _printed(sandbox, None, _CHECKING, {"problems": rows})
    if not isinstance(found, list):
        return Judgement(None, f"tests_did_not_finish: {found}")
    return Judgement(tuple(value is True for value in found))


def _read(answers: Any, test: HiddenTest) -> list[Answer] | None:
    """The answers to one test; None if they are not what ``answering.py`` writes."""
    if not isinstance(answers, list) or len(answers) != len(test.answers):
        return None
    if not all(isinstance(each, list) and len(each) == 2 and all(isinstance(t, str) for t in each) for each in answers):
        return None
    if sum(len(text) for _, text in answers) > _MOST * sum(map(len, test.answers.values())) + 10_000:
        return None
    return [(kind, text) for kind, text in answers]


def _printed(
    sandbox: Sandbox, folder: Path | None, program: str, given: dict[str, Any], limits: Limits = LIMITS
) -> Any:
    """What the program prints, as JSON; a text says why there is nothing."""
    with sandbox.open(folder, limits) as session:
        finished = session.run([*_PYTHON, program], stdin=json.dumps(given).encode())
    if finished.timed_out:
        return "time_limit"
    if finished.exit_code != 0:
        last = finished.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return f"exit code {finished.exit_code}: {last[:200]}"
    try:
        return json.loads(finished.stdout)
    except (ValueError, RecursionError):
        return "answers_not_readable"
