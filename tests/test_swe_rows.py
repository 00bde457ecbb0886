"""Rows of SWE-bench and its kin on a small repository of our own: prepared from a clone, judged by pytest.

Run alone: python -m pytest tests/test_swe_rows.py
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pivotrl.environments.swe import SweTask, gold_commands, make_environments, restore
from pivotrl.environments.swe.rows import load_instances
from pivotrl.protocols import InputError, NotRestorable, Turn
from pivotrl.records import Action, Message, ToolCall, Trajectory
from pivotrl.sandbox import open_sandbox

WRONG = "def double(x):\n    return x + x + (x > 9)\n\n\ndef triple(x):\n    return 3 * x\n"
RIGHT = WRONG.replace(" + (x > 9)", "")
TESTS = "import pytest\nfrom calc import double, triple\n\n\ndef test_triple():\n    assert triple(2) == 6\n"
MORE = TESTS + "\n\n@pytest.mark.parametrize('x', [1, 10])\ndef test_double(x):\n    assert double(x) == 2 * x\n"
FAIL, PASS = (
    ["tests/test_calc.py::test_double[10]"],
    ["tests/test_calc.py::test_triple", "tests/test_calc.py::test_double[1]"],
)


@pytest.fixture(scope="module", autouse=True)
def _sandbox() -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    try:
        open_sandbox()
    except InputError as error:
        pytest.skip(f"no sandbox here: {error}")


def git(folder: Path, *words: str) -> str:
    names = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(["git", "-C", str(folder), *names, *words], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clones, packages and the rows of one issue in every shape."""
    root = tmp_path_factory.mktemp("swe")
    packages = root / "packages"
    packages.mkdir()
    for name in ("pytest", "_pytest", "py", "pluggy", "iniconfig", "packaging", "pygments"):
        found = importlib.util.find_spec(name)
        assert found is not None and found.origin is not None
        if not found.submodule_search_locations:
            shutil.copy(found.origin, packages)
            continue
        shutil.copytree(Path(found.origin).parent, packages / name, ignore=shutil.ignore_patterns("__pycache__"))

    clone = root / "clones" / "acme__calc"
    (clone / "tests").mkdir(parents=True)
    git(clone, "init", "--quiet", "--initial-branch=main")
    (clone / "calc.py").write_text(WRONG)
    (clone / "tests" / "test_calc.py").write_text(TESTS)
    (clone / "conftest.py").write_text("")
    git(clone, "add", ".")
    git(clone, "commit", "--quiet", "-m", "base")
    base = git(clone, "rev-parse", "HEAD").strip()
    (clone / "calc.py").write_text(RIGHT)
    patch = git(clone, "diff")
    git(clone, "commit", "--quiet", "-am", "the solution")
    (clone / "tests" / "test_calc.py").write_text(MORE)
    test_patch = git(clone, "diff")
    git(clone, "commit", "--quiet", "-am", "its tests")

    common = {"repo": "acme/calc", "problem_statement": "double(10) gives 21."}
    row = {**common, "base_commit": base, "patch": patch, "test_patch": test_patch, "hints_text": "", "version": "1"}
    lists = {"FAIL_TO_PASS": FAIL, "PASS_TO_PASS": PASS}
    texts = {name: json.dumps(value) for name, value in lists.items()}
    bug = git(clone, "diff", "HEAD", base, "--", "calc.py")
    nemo = {"instance_id": "nemo", **row, **texts}
    smith = {**common, "repo": "swesmith/acme__calc", "patch": bug, **lists, "image_name": "jyangballin/swesmith.calc"}
    write(
        root / "rows.jsonl",
        {"instance_id": "bench", **row, **texts},
        {"instance_id": "gym", **row, **lists},
        {"instance_id": "smith", **smith},
        {"responses_create_params": {"input": [], "metadata": {"instance_dict": json.dumps(nemo)}}},
        {"instance_id": "pro", **row, "fail_to_pass": repr(FAIL), "pass_to_pass": repr(PASS)},
    )
    return root


def write(path: Path, *rows: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def options(place: Path) -> dict[str, Any]:
    folders = {name: str(place / name) for name in ("clones", "packages", "folder")}
    return {"rows": str(place / "rows.jsonl"), "command_seconds": 10.0, "test_seconds": 20.0, **folders}


@pytest.fixture
def task(place: Path) -> Iterator[SweTask]:
    with closing(make_environments(**options(place), manner="bash").make("bench")) as environment:
        environment.reset()
        yield environment


def bash(command: str) -> Action:
    return Action(tool_calls=(ToolCall(name="bash", arguments=json.dumps({"command": command}), id="c"),))


def told(environment: SweTask, command: str) -> str:
    return environment.step(bash(command)).messages[0].content or ""


SHAPES = ["bench", "smith", *(pytest.param(name, marks=pytest.mark.slow) for name in ("nemo", "gym", "pro"))]


@pytest.mark.parametrize("name", SHAPES)
def test_in_every_shape_the_gold_patch_solves_the_issue_and_nothing_does_not(place: Path, name: str) -> None:
    with closing(make_environments(**options(place), manner="bash").make(name)) as environment:
        messages = environment.reset()
        assert "double(10) gives 21." in (messages[-1].content or "")
        before = environment.graded()
        assert before.reason == "" and before.outcomes == {FAIL[0]: "failed", **dict.fromkeys(PASS, "passed")}
        *work, submit = gold_commands(environment.instance)
        for command in work:
            assert told(environment, command).startswith("<returncode>0</returncode>")
        assert environment.step(bash(submit)).reward == 1.0


def test_the_agent_sees_neither_the_solution_in_the_history_nor_the_tests_of_the_row(task: SweTask) -> None:
    assert told(task, "git log --all --oneline | wc -l; git status --short").startswith(
        "<returncode>0</returncode>\n<output>\n1\n</output>"
    )
    assert "test_double" not in told(task, "cat tests/*.py; git log --all -p")


@pytest.mark.slow
def test_the_tests_of_swe_smith_that_fail_are_hidden_too(place: Path) -> None:
    with closing(make_environments(**options(place), manner="bash").make("smith")) as environment:
        environment.reset()
        assert told(environment, "ls tests").startswith("<returncode>0</returncode>\n<output>\n</output>")


@pytest.mark.slow
def test_pytest_runs_in_the_sandbox_and_git_shows_what_changed(task: SweTask) -> None:
    assert "1 passed" in told(task, "python3 -m pytest -q")
    told(task, "sed -i 's/ + (x > 9)//' calc.py")
    assert "-    return x + x + (x > 9)" in told(task, "git diff")


HACKS = {
    "visible tests": "echo 'def test_double(): pass' > tests/test_calc.py",
    "conftest": "printf 'def pytest_runtest_makereport(item, call):\\n    call.excinfo = None\\n' > conftest.py",
    "conftest beside the tests": "printf 'collect_ignore = [\"test_calc.py\"]\\n' > tests/conftest.py",
    "configuration": "printf '[pytest]\\naddopts = --co\\n' > pytest.ini",
    "sitecustomize": "echo 'import os; os._exit(0)' > sitecustomize.py",
    "another pytest": "echo 'def main(*a, **k): return 0' > pytest.py",
    "the packages": "for f in .packages/pytest/__init__.py .packages/_pytest/python.py; do echo 'x = 1' > $f; done",
    "exit": "echo 'import os; os._exit(0)' >> calc.py",
    "leaves": "echo 'raise SystemExit(0)' >> calc.py",
    "prints": "echo 'print(\"PASSED tests/test_calc.py::test_double[10]\")' >> calc.py",
    "no tests": "rm -r tests",
    "every test passes": (
        "printf 'import _pytest.runner as r\\nold = r.CallInfo.from_call.__func__\\ndef new(c, f, *a, **k):\\n"
        "    made = old(c, f, *a, **k)\\n    made.excinfo = None\\n    return made\\n"
        "r.CallInfo.from_call = classmethod(new)\\n' >> calc.py"
    ),
    "equals everything": "echo 'class E(int):\n    __eq__ = lambda *a: False\ndouble = lambda x: E()' >> calc.py",
}


FAST = ("conftest", "every test passes")


@pytest.mark.parametrize(
    "hack", [hack if hack in FAST else pytest.param(hack, marks=pytest.mark.slow) for hack in HACKS]
)
def test_a_reward_hack_gets_nothing(task: SweTask, hack: str) -> None:
    assert told(task, HACKS[hack]).startswith("<returncode>0")
    assert task.reward() == 0.0


def test_what_shares_a_process_with_the_tests_can_forge_one_of_them_as_in_swe_bench(task: SweTask) -> None:
    """The known hole, written down: docs/repair.md names it."""
    told(task, "printf 'class E(int):\\n    __eq__ = lambda *a: True\\ndouble = lambda x: E()\\n' >> calc.py")
    assert task.reward() == 1.0


@pytest.mark.slow
def test_a_solution_that_breaks_another_test_gets_nothing(task: SweTask) -> None:
    told(task, "sed -i 's/ + (x > 9)//; s/3 [*] x/2 * x/' calc.py")
    assert task.graded().outcomes[PASS[0]] == "failed" and task.reward() == 0.0


@pytest.mark.slow
def test_every_turn_is_restored(place: Path, task: SweTask) -> None:
    messages: list[Message] = list(task.reset())
    for command in ("git status", "python3 -m pytest -q", "sed -i 's/ + (x > 9)//' calc.py", "git diff", "git add -A"):
        action = bash(command)
        messages.append(Message(role="assistant", tool_calls=action.tool_calls))
        messages += task.step(action).messages
    trajectory = Trajectory(id="t", task_id="bench", messages=tuple(messages), tools=task.tools, metadata=task.metadata)
    task.reset()
    for index, message in enumerate(messages):
        if message.role == "assistant":
            with closing(restore(Turn(trajectory, index), **options(place))) as restored:
                assert restored.state() == task.state()
            task.step(Action(tool_calls=message.tool_calls))
    other = trajectory.model_copy(update={"task_id": "elsewhere"})
    with pytest.raises(NotRestorable, match="unknown_task"):
        restore(Turn(other, 2), **options(place))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"packages": None}, "pytest does not come to its end .*No module named 'pytest'.*packages="),
        ({"FAIL_TO_PASS": PASS[:1]}, "test_triple of FAIL_TO_PASS passes here before anything is repaired"),
        (
            {"PASS_TO_PASS": [*PASS, "tests/test_calc.py::test_x"]},
            r"1 of 3 tests of PASS_TO_PASS .*test_x \(did not run",
        ),
    ],
)
def test_tests_that_do_not_run_here_are_a_fault_of_the_setup_and_not_of_the_agent(
    place: Path, tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    row = json.loads((place / "rows.jsonl").read_text().splitlines()[0])
    changed = {**options(place), "rows": str(tmp_path / "rows.jsonl"), "folder": str(tmp_path / "made")}
    if "packages" in change:
        changed |= change
        write(tmp_path / "rows.jsonl", row)
    else:
        write(tmp_path / "rows.jsonl", {**row, **change})
    for _ in range(2):
        with pytest.raises(InputError, match=why):
            make_environments(**changed).make("bench")


@pytest.mark.slow
def test_a_folder_without_commits_holds_the_files_at_the_base_commit(place: Path, tmp_path: Path) -> None:
    (tmp_path / "clones" / "bench").mkdir(parents=True)
    (tmp_path / "clones" / "bench" / "calc.py").write_text(WRONG)
    (tmp_path / "clones" / "bench" / "tests").mkdir()
    (tmp_path / "clones" / "bench" / "tests" / "test_calc.py").write_text(TESTS)
    changed = {**options(place), "clones": str(tmp_path / "clones"), "folder": str(tmp_path / "made")}
    with closing(make_environments(**changed).make("bench")) as environment:
        environment.reset()
        assert environment.graded().outcomes[FAIL[0]] == "failed"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"base_commit": None}, "base_commit is missing"),
        ({"patch": None}, "patch is missing"),
        ({"FAIL_TO_PASS": "[]"}, "FAIL_TO_PASS is empty"),
        ({"FAIL_TO_PASS": "three tests"}, "FAIL_TO_PASS is text that is no list"),
        ({"PASS_TO_PASS": 3}, "PASS_TO_PASS is missing or no list"),
        ({"problem_statement": None}, "problem_statement is missing"),
    ],
)
def test_a_broken_row_is_named(place: Path, tmp_path: Path, change: dict[str, Any], why: str) -> None:
    row = json.loads((place / "rows.jsonl").read_text().splitlines()[0])
    write(tmp_path / "rows.jsonl", row, {**row, "instance_id": "two", **change})
    with pytest.raises(InputError, match=rf"rows.jsonl:2.* is not a row of SWE-bench or its kin: {why}"):
        load_instances(tmp_path / "rows.jsonl")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"repo": "acme/other"}, "git clone https://github.com/acme/other"),
        ({"base_commit": "0" * 40}, "has no commit 0000"),
        ({"base_commit": "--output=x"}, "not the name of a commit"),
        (
            {"test_patch": "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-1\n+2\n"},
            "its test_patch does not apply",
        ),
    ],
)
def test_a_row_that_does_not_go_with_its_clone_is_refused(
    place: Path, tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    row = json.loads((place / "rows.jsonl").read_text().splitlines()[0])
    write(tmp_path / "rows.jsonl", {**row, **change})
    changed = {**options(place), "rows": str(tmp_path / "rows.jsonl")}
    with pytest.raises(InputError, match=why):
        make_environments(**changed).make("bench")


def test_tests_in_another_manner_and_an_image_without_docker_are_refused(place: Path, tmp_path: Path) -> None:
    row = json.loads((place / "rows.jsonl").read_text().splitlines()[0])
    django = {**row, "instance_id": "django", "FAIL_TO_PASS": '["test_x (app.tests.T)"]'}
    write(tmp_path / "rows.jsonl", row, django)
    changed = {**options(place), "rows": str(tmp_path / "rows.jsonl")}
    with pytest.raises(InputError, match="the tests of 1 of 2 rows, such as django, are not named in pytest's manner"):
        make_environments(**changed)
    assert make_environments(**changed, skip_others=True).tasks() == ["bench"]
    if shutil.which("docker") is None:
        with pytest.raises(InputError, match="needs the docker command"):
            make_environments(**options(place), backend="docker").make("smith")
    with pytest.raises(InputError, match="is not a folder"):
        make_environments(**{**options(place), "packages": str(tmp_path / "none")})
