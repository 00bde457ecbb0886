"""What stands in the files of a repair task, and in its issue."""

from __future__ import annotations

import ast
import random
from collections.abc import Sequence
from dataclasses import dataclass

from pivotrl.environments.repair.hidden_tests import Answer, HiddenTest
from pivotrl.environments.repair.problems import Problem

PACKAGE = "toolbox"


@dataclass(frozen=True)
class Module:
    """A file of the package."""

    name: str
    problems: tuple[Problem, ...]


def call(test: HiddenTest, arguments: str) -> str:
    inside = arguments[1:-1].removesuffix(",")
    return f"{test.name}({inside})"


def issue(test: HiddenTest, shown: Sequence[tuple[str, Answer]], draw: random.Random) -> str:
    opening = draw.choice(
        (
            "The function does not do what its docstring says.",
            "This came up after the last release; it used to work.",
            "I get another result than the documentation promises.",
        )
    )
    lines = [f"# `{test.name}` gives wrong results", "", opening]
    for arguments, (kind, text) in shown:
        came = f"It raises `{text}`." if kind == "raised" else f"It returns `{text}`."
        lines += ["", f"    {call(test, arguments)}", "", f"{came} It should return `{test.answers[arguments]}`."]
    return "\n".join(lines)


def readme(modules: Sequence[Module]) -> str:
    lines = [
        f"# {PACKAGE}",
        "",
        "Small functions that did not fit anywhere else. Each docstring says what is promised.",
    ]
    lines += ["", "Run the tests with `python3 -m unittest`.", ""]
    for module in modules:
        names = ", ".join(f"`{problem.entry_point}`" for problem in module.problems)
        lines.append(f"- `{PACKAGE}/{module.name}.py`: {names}")
    return "\n".join(lines) + "\n"


def visible_tests(module: Module, visible: dict[int, list[tuple[str, str]]]) -> str:
    names = ", ".join(sorted(problem.entry_point for problem in module.problems))
    lines = ["import unittest", "", f"from {PACKAGE}.{module.name} import {names}", ""]
    for problem in module.problems:
        title = "".join(word.capitalize() for word in problem.entry_point.split("_"))
        lines += ["", f"class {title}Test(unittest.TestCase):", "    def test_examples(self):"]
        lines += [f"        self.{_assertion(problem, *pair)}" for pair in visible[problem.number]]
        if not visible[problem.number]:
            lines.append(f"        self.assertTrue(callable({problem.entry_point}))")
        lines.append("")
    return "\n".join(lines)


def _assertion(problem: Problem, arguments: str, wanted: str) -> str:
    inside = arguments[1:-1].removesuffix(",")
    kind = "assertAlmostEqual" if isinstance(ast.literal_eval(wanted), float) else "assertEqual"
    return f"{kind}({problem.entry_point}({inside}), {wanted})"
