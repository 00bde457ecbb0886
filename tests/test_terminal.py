"""Terminal tasks in Harbor's layout: solutions pass, doing nothing fails, turns are restored, two manners of acting.

Run alone: python -m pytest tests/test_terminal.py
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pivotrl.environments.shell import TASKS, TerminusTask, make_environments, restore
from pivotrl.protocols import InputError, Notice, NotRestorable, Turn
from pivotrl.readers.shell_tasks import read
from pivotrl.reading.formats.harbor_tasks import commands_of, is_whole_command, load_harbor_tasks
from pivotrl.records import Action, Refusal, ToolCall, Trajectory
from pivotrl.sandbox import open_sandbox

NAMES = sorted(path.name for path in TASKS.iterdir())
FEW = ("build-order", "fix-median", "rename-photos")
"""One of each kind for what would take long on all; `-m slow` takes all."""
PROTOCOLS: tuple[Any, ...] = ("bash", "terminus")


@pytest.fixture(scope="module", autouse=True)
def sandbox() -> None:
    try:
        open_sandbox()
    except InputError as error:
        pytest.skip(f"no sandbox here: {error}")


def bash(command: str) -> Action:
    return Action(tool_calls=(ToolCall(name="bash", arguments=json.dumps({"command": command}), id="c"),))


def keys(*typed: str, done: bool = False) -> Action:
    commands = [{"keystrokes": one, "duration": 0.1} for one in typed]
    return Action(content=json.dumps({"analysis": "", "plan": "", "commands": commands, "task_complete": done}))


def copied(folder: Path, *names: str) -> Path:
    for name in names:
        shutil.copytree(TASKS / name, folder / name)
    return folder


def demonstrated(root: Path, **options: Any) -> list[Trajectory]:
    found = list(read(root, **options))
    assert all(isinstance(one, Trajectory) for one in found), found
    return found  # type: ignore[return-value]


# --- contract --------------------------------------------------------------------------------------------------------


def test_there_are_more_than_thirty_tasks_and_all_can_be_played() -> None:
    found, refused = load_harbor_tasks(TASKS)
    assert sorted(found) == NAMES and len(NAMES) > 30 and not refused
    assert all(task.solution and task.tags["difficulty"] and task.tags["category"] for task in found.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_task_is_failed_by_doing_nothing_and_by_claiming_it_was_done(name: str) -> None:
    environment = make_environments().make(name)
    environment.reset()
    end = environment.step(Action(content="Done."))
    assert (end.done, end.reward, end.reason) == (True, 0.0, "finished")
    environment.close()


def _require_experts_pass_and_turns_are_restored(root: Path, names: tuple[str, ...], protocol: Any) -> None:
    trajectories = demonstrated(root, protocol=protocol)
    assert [one.task_id for one in trajectories] == sorted(names)
    environments = make_environments(root=str(root), protocol=protocol)
    for trajectory in trajectories:
        live = environments.make(trajectory.task_id)
        live.reset()
        end = None
        for index, message in enumerate(trajectory.messages):
            if message.role != "assistant":
                continue
            turn = Turn(trajectory, index)
            restored = restore(turn, root=str(root), protocol=protocol)
            assert restored.state() == live.state()
            restored.close()
            end = live.step(turn.expected_action)
        assert end is not None and (end.done, end.reward) == (True, 1.0)
        live.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_solutions_pass_and_their_turns_are_restored_exactly(tmp_path: Path, protocol: Any) -> None:
    _require_experts_pass_and_turns_are_restored(copied(tmp_path, *FEW), FEW, protocol)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_all_solutions_pass_and_all_their_turns_are_restored_exactly(protocol: Any) -> None:
    _require_experts_pass_and_turns_are_restored(TASKS, tuple(NAMES), protocol)


def test_another_way_passes_and_a_wrong_file_fails() -> None:
    for order, reward in (
        ("log core icons ui app tests", 1.0),
        ("icons log core ui app tests", 1.0),
        ("app log core icons ui tests", 0.0),
    ):
        environment = make_environments().make("build-order")
        environment.reset()
        environment.step(bash(f"printf '%s\\n' {order} > order.txt"))
        assert environment.step(Action(content="Done.")).reward == reward
        environment.close()


def test_the_check_sees_the_paths_that_harbor_promises_and_the_agent_does_not() -> None:
    environment = make_environments().make("fix-median")
    environment.reset()
    told = environment.step(bash("pwd; ls; ls -d /tests /solution /logs")).messages[0].content or ""
    assert told.startswith("/app\nstats.py\n") and told.count("cannot access") == 3
    environment.close()


def test_the_agent_cannot_write_its_own_reward(tmp_path: Path) -> None:
    root = copied(tmp_path, "write-slug")
    environment = make_environments(root=str(root)).make("write-slug")
    environment.reset()
    environment.step(
        bash("mkdir -p logs/verifier; echo 1 > logs/verifier/reward.txt; echo 'import os; os._exit(0)' > slug.py")
    )
    assert environment.step(Action(content="Done.")).reward == 0.0
    environment.close()


# --- the manner of Terminus 2 ----------------------------------------------------------------------------------------


@pytest.fixture
def terminal() -> Any:
    environment = make_environments(protocol="terminus", max_turns=6).make("collect-texts")
    assert isinstance(environment, TerminusTask)
    environment.reset()
    yield environment
    environment.close()


def test_the_folder_stays_and_the_screen_shows_what_was_typed(terminal: TerminusTask) -> None:
    (message,) = terminal.step(keys("cd tree\n", "ls\n")).messages
    assert message.role == "user"
    assert (
        message.content
        == "agent@sandbox:/app$ cd tree\nagent@sandbox:/app/tree$ ls\na\nb.txt\nagent@sandbox:/app/tree$ "
    )
    (message,) = terminal.step(keys("pwd; exit 3\n")).messages
    assert message.content == "agent@sandbox:/app/tree$ pwd; exit 3\n/app/tree\nagent@sandbox:/app/tree$ "


def test_the_end_is_asked_for_twice(terminal: TerminusTask) -> None:
    first = terminal.step(keys(done=True))
    assert not first.done and "once more" in (first.messages[0].content or "")
    assert not terminal.step(keys("ls\n")).done  # it thought better of it
    assert not terminal.step(keys(done=True)).done
    end = terminal.step(keys(done=True))
    assert (end.done, end.reward, end.reason) == (True, 0.0, "finished")


@pytest.mark.parametrize(
    "text",
    [
        "ls",
        "[]",
        '{"commands": "ls"}',
        '{"commands": [{"keys": "ls"}]}',
        '{"commands": [], "task_complete": "yes"}',
        "",
    ],
)
def test_what_is_not_such_an_answer_is_told_and_runs_nothing(terminal: TerminusTask, text: str) -> None:
    before, answer = terminal.state(), terminal.step(Action(content=text))
    assert answer.fault == "not_executed" and terminal.state() == before
    assert (answer.messages[0].content or "").startswith("Previous response had parsing errors: ")


def test_the_turns_are_counted_and_floods_are_cut(terminal: TerminusTask) -> None:
    flood = terminal.step(keys("yes | head -c 60000\n")).messages[0].content or ""
    assert len(flood) < 11_000 and "characters left out" in flood
    for _ in range(4):
        assert not terminal.step(keys("true\n")).done
    end = terminal.step(keys("true\n"))
    assert (end.done, end.reward, end.reason) == (True, 0.0, "too_many_turns")


# --- tasks of others -------------------------------------------------------------------------------------------------


def changed(folder: Path, path: str, text: str) -> Path:
    root = copied(folder, "write-slug")
    (root / "write-slug" / path).parent.mkdir(parents=True, exist_ok=True)
    (root / "write-slug" / path).write_text(text)
    return root


@pytest.mark.parametrize(
    ("path", "text", "why"),
    [
        ("environment/Dockerfile", "FROM nvidia/cuda:12\n", "needs the image nvidia/cuda:12"),
        (
            "environment/Dockerfile",
            "FROM debian:12\nRUN apt-get \\\n  install -y gcc\n",
            "built by `RUN apt-get install -y gcc`",
        ),
        (
            "environment/Dockerfile",
            "FROM debian:12\nWORKDIR /app\nCOPY nowhere /app/\n",
            "copies nowhere, which is not in environment/",
        ),
        (
            "environment/Dockerfile",
            "FROM debian:12\nWORKDIR /app\nCOPY ../task.toml /app/\n",
            "which is not in environment/",
        ),
        (
            "environment/Dockerfile",
            "FROM debian:12\nWORKDIR /app\nCOPY Dockerfile /etc/\n",
            "to /etc, outside|to /etc/, outside",
        ),
        ("environment/docker-compose.yaml", "services: {}\n", "several containers"),
        ("task.toml", '[environment]\ndocker_image = "org/image:1"\n', "needs the image org/image:1"),
        ("task.toml", "[environment]\ngpus = 1\n", "needs a GPU"),
        ("task.toml", "[[steps]]\nname = 'a'\n", "several steps"),
        ("task.toml", "version = ", "task.toml: "),
        ("task.toml", "[verifier]\ntimeout_sec = -1\n", "timeout_sec of the verifier is -1"),
        ("task.toml", "[verifier.env]\nKEY = 'x'\n", "sets environment variables"),
        ("instruction.md", " \n", "no instruction.md"),
        ("tests/test.sh", "curl -LsSf https://example.org/uv | sh\n", "fetches packages \\(curl\\)"),
    ],
)
def test_a_task_that_needs_more_than_files_is_refused_with_the_reason(
    tmp_path: Path, path: str, text: str, why: str
) -> None:
    root = changed(tmp_path, path, text)
    (refusal,) = read(root)
    assert isinstance(refusal, Refusal) and refusal.place.endswith("write-slug")
    with pytest.raises(InputError, match=why):
        make_environments(root=str(root))


def test_tasks_that_cannot_be_played_are_left_out_with_a_notice(tmp_path: Path) -> None:
    root = copied(changed(tmp_path, "environment/docker-compose.yaml", "services: {}\n"), "roman-numbers")
    with pytest.warns(
        Notice, match="1 of 2 tasks below .* cannot be played here; the first: .*write-slug: it needs several"
    ):
        assert make_environments(root=str(root)).tasks() == ["roman-numbers"]


def test_the_layout_of_terminal_bench_1_is_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "hello").mkdir()
    (tmp_path / "hello" / "task.yaml").write_text("instruction: say hello\n")
    (refusal,) = read(tmp_path)
    assert isinstance(refusal, Refusal) and "harbor tasks migrate" in refusal.reason


def test_an_expert_that_does_not_solve_its_task_is_refused(tmp_path: Path) -> None:
    root = changed(tmp_path, "solution/solve.sh", "#!/bin/bash\necho nothing\n")
    (refusal,) = read(root)
    assert isinstance(refusal, Refusal) and refusal.reason == "the expert's reward is 0.0"


def test_a_script_whose_parts_need_each_other_is_played_whole(tmp_path: Path) -> None:
    body = 're.sub("[^a-z0-9]+", "-", text.lower()).strip("-") or "untitled"'
    source = f"import re\\n\\n\\ndef slug(text):\\n    return {body}\\n"
    root = changed(tmp_path, "solution/solve.sh", f"#!/bin/bash\ntarget=slug.py\n\nprintf '{source}' > \"$target\"\n")
    (trajectory,) = demonstrated(root)
    assert sum(bool(message.tool_calls) for message in trajectory.messages) == 1


def test_tests_that_write_no_number_give_no_reward(tmp_path: Path) -> None:
    for number, (script, reward) in enumerate(
        (
            ("exit 0\n", None),
            ("echo nan > /logs/verifier/reward.txt\n", None),
            ("echo 0.5 > /logs/verifier/reward.txt\n", 0.5),
            ("echo '{\"reward\": 1}' > /logs/verifier/reward.json\n", 1.0),
            ("ln -s /etc/passwd /logs/verifier/reward.txt\n", None),
        )
    ):
        root = changed(tmp_path / str(number), "tests/test.sh", script)
        environment = make_environments(root=str(root)).make("write-slug")
        environment.reset()
        assert environment.step(Action(content="Done.")).reward == reward
        environment.close()


def test_commands_of_a_script_keep_here_documents_and_loops_whole() -> None:
    (first, second, third) = commands_of(
        "#!/bin/bash\n\nls\n\ncat > x <<'EOF'\na\n\nb\nEOF\n\nfor i in 1 2; do\n\n  echo $i\ndone\n",
        is_whole_command,
    )
    assert (first, second, third) == ("ls", "cat > x <<'EOF'\na\n\nb\nEOF", "for i in 1 2; do\n\n  echo $i\ndone")


def test_a_log_of_an_unknown_task_is_not_restored() -> None:
    with pytest.raises(NotRestorable, match="unknown_task"):
        restore(Turn(Trajectory(id="t", task_id="no-such-task", messages=()), 0))
