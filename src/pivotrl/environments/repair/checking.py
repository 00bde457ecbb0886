"""Run by the sandbox's Python, without any code of an agent: the tests of problems, on answers that were given before.

Standard input holds JSON: ``problems``, each with ``source`` (the right one), ``test`` and ``name``, and, where answers
are to be checked, ``answers``: the arguments of a call -> what came back, both as Python literals. Standard output gets
a result for each: the answers that the right function gives to the calls of its test, or whether the test passes.
"""

from __future__ import annotations

import ast
import json
import os
import random
import runpy
import sys
import tempfile
from collections.abc import Callable
from typing import Any


def loaded(problem: dict[str, Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The right function, and its test."""
    random.seed(0)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "problem.py")  # noqa: PTH118
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(problem["source"] + "\n\n" + problem["test"])
        space = runpy.run_path(path)
    return space[problem["name"]], space["check"]


def traced(problem: dict[str, Any]) -> dict[str, str]:
    function, check = loaded(problem)
    answers: dict[str, str] = {}

    def candidate(*arguments: Any) -> Any:
        asked = repr(arguments)
        value = function(*arguments)
        answers[asked] = repr(value)
        return value

    check(candidate)
    return answers


def passes(problem: dict[str, Any]) -> bool:
    _, check = loaded(problem)

    def candidate(*arguments: Any) -> Any:
        return ast.literal_eval(problem["answers"][repr(arguments)])

    try:
        check(candidate)
    except Exception:
        return False
    return True


def main() -> None:
    problems = json.load(sys.stdin)["problems"]
    json.dump([passes(problem) if "answers" in problem else traced(problem) for problem in problems], sys.stdout)


if __name__ == "__main__":
    main()
