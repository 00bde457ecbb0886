"""Shell tasks: commands in the sandbox, states had again by replay, rewards judged from outside.

Run alone: python -m pytest tests/test_shell_environment.py
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pivotrl import plugins
from pivotrl.environments import shell
from pivotrl.environments.shell import ShellTask, make_environments, restore
from pivotrl.protocols import InputError, NotRestorable, Turn
from pivotrl.readers import shell_tasks
from pivotrl.reading.formats.shell_tasks import load_tasks
from pivotrl.records import Action, Message, ToolCall, Trajectory
from pivotrl.sandbox import open_sandbox
from pivotrl.verifiers.outcome import Outcome

ROOT = Path(__file__).parent / "data" / "shell_tasks"
DEMONSTRATIONS = {
    trajectory.id: trajectory
    for trajectory in map(Trajectory.model_validate_json, (ROOT / "demonstrations.jsonl").read_text().splitlines())
}


@pytest.fixture(scope="module", autouse=True)
def sandbox() -> None:
    try:
        open_sandbox()
    except InputError as error:
        pytest.skip(f"no sandbox here: {error}")


def bash(command: str, **arguments: Any) -> Action:
    call = ToolCall(name="bash", arguments=json.dumps({"command": command, **arguments}), id="c")
    return Action(tool_calls=(call,))


@pytest.fixture
def orders() -> Iterator[ShellTask]:
    environment = make_environments(root=str(ROOT), command_seconds=2.0).make("orders")
    environment.reset()
    yield environment
    environment.close()


def turn(name: str, index: int, **changes: Any) -> Turn:
    return Turn(DEMONSTRATIONS[f"shell-{name}"].model_copy(update=changes), index)


# --- demonstrations ------------------------------------------------------------------------------------------------


def test_the_experts_solve_their_tasks_and_what_they_saw_is_what_is_on_record() -> None:
    """The committed demonstrations came out of this reader; clocks apart they do so again."""
    made = list(shell_tasks.read(ROOT))
    assert [t.id for t in made if isinstance(t, Trajectory)] == list(DEMONSTRATIONS) and len(made) == 6
    for trajectory in made:
        assert isinstance(trajectory, Trajectory) and trajectory.reward == 1.0
        if trajectory.task_id != "stopwatch":
            assert trajectory == DEMONSTRATIONS[trajectory.id]


def test_an_expert_that_fails_is_refused(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tidy_names", tmp_path / "tidy_names")
    task = json.loads((tmp_path / "tidy_names" / "task.json").read_text())
    task["expert"] = task["expert"][:-2]
    (tmp_path / "tidy_names" / "task.json").write_text(json.dumps(task))
    (refusal,) = shell_tasks.read(tmp_path)
    assert not isinstance(refusal, Trajectory) and refusal.reason == "the expert's reward is 0.0"


# --- acting --------------------------------------------------------------------------------------------------------


def test_the_agent_sees_output_and_exit_code_and_files_persist(orders: ShellTask) -> None:
    answer = orders.step(bash("echo hi; echo oh >&2; exit 3"))
    assert answer.messages == (Message(role="tool", content="hi\noh\n[exit code 3]", tool_call_id="c"),)
    assert answer.returned == [{"exit_code": 3, "output": "hi\noh\n"}] and not answer.done and not answer.fault
    orders.step(bash("cd data && x=1 && echo one > new"))
    assert orders.step(bash("cat data/new; echo $x")).returned == [{"exit_code": 0, "output": "one\n\n"}]


def test_a_block_of_shell_is_a_command_and_its_answer_is_the_users(orders: ShellTask) -> None:
    answer = orders.step(Action(content="Let me see.\n\n```bash\nls data\n```"))
    assert answer.messages == (Message(role="user", content="orders.csv\nrefunds.csv\n[exit code 0]"),)


def test_two_calls_run_in_order_with_an_answer_each(orders: ShellTask) -> None:
    both = Action(tool_calls=(*bash("echo 1 > x").tool_calls, *bash("cat x").tool_calls))
    assert [m.content for m in orders.step(both).messages] == ["[exit code 0]", "1\n[exit code 0]"]


@pytest.mark.parametrize(
    "action",
    [
        Action(tool_calls=(ToolCall(name="python", arguments='{"command": "ls"}'),)),
        Action(tool_calls=(ToolCall(name="bash", arguments='{"command": "l'),)),
        Action(tool_calls=(ToolCall(name="bash", arguments='{"command": ["ls"]}'),)),
        bash("ls", timeout=3),
        bash("ls \0"),
        Action(content="```bash\nls\n"),
    ],
)
def test_what_is_no_command_is_not_executed_and_told(orders: ShellTask, action: Action) -> None:
    before, answer = orders.state(), orders.step(action)
    assert answer.fault == "not_executed" and "not executed" in (answer.messages[0].content or "")
    assert not answer.done and orders.state() == before


def test_limits_are_told_and_flagged(orders: ShellTask) -> None:
    flood = orders.step(bash("head -c 3000000 /dev/zero"))
    assert flood.fault == "output_truncated" and "output cut" in (flood.messages[0].content or "")
    orders._limits = dataclasses.replace(orders._limits, wall_seconds=0.3)
    late = orders.step(bash("echo started; sleep 20"))
    assert late.fault == "time_limit" and (late.messages[0].content or "").startswith("started\n[killed after 0.3 s]")
    assert orders.step(bash("echo alive")).returned[0]["output"] == "alive\n"


def test_bytes_that_are_no_text_are_told_from_the_text_that_spells_them(orders: ShellTask) -> None:
    raw, spelt = orders.step(bash(r"printf '\377'")), orders.step(bash(r"printf '\\xff'"))
    assert raw.messages[0].content == spelt.messages[0].content and raw.returned != spelt.returned


@pytest.mark.parametrize(
    "command",
    [
        "touch new",
        "mkdir new",
        "mkfifo new",
        "ln -s data new",
        "chmod 700 data",
        "chmod 600 data/orders.csv",
        "rm data/refunds.csv",
        "sed -i s/bob/rob/ data/orders.csv",
        "echo x > /tmp/x",
        "mkdir /dev/shm/x",
        "ln -s / /tmp/x",
    ],
)
def test_the_state_shows_every_kind_of_change(orders: ShellTask, command: str) -> None:
    before = orders.state()
    assert orders.step(bash("cat data/*; ls -la > /dev/null")).fault == "" and orders.state() == before
    assert orders.step(bash(command)).returned[0]["exit_code"] == 0
    assert orders.state() != before


def test_content_beside_the_work_directory_counts_too(orders: ShellTask) -> None:
    orders.step(bash("echo a > /tmp/x"))
    before = orders.state()
    orders.step(bash("echo b > /tmp/x"))
    assert orders.state() != before


# --- rewards -------------------------------------------------------------------------------------------------------


def played(name: str, *commands: str, limit: int = 30) -> tuple[float | None, str]:
    environment = make_environments(root=str(ROOT), max_turns=limit).make(name)
    environment.reset()
    for action in (*map(bash, commands), Action(content="Done.")):
        observation = environment.step(action)
        if observation.done:
            break
    environment.close()
    return observation.reward, observation.reason


FIX = "sed -i 's/return ordered.middle.$/return (ordered[middle] + ordered[~middle]) \\/ 2/' stats/middle.py"


@pytest.mark.parametrize(
    ("name", "commands", "reward"),
    [
        ("fix_median", [FIX], 1.0),
        ("fix_median", [], 0.0),
        ("fix_median", ["printf 'import os\\nprint(1)\\nos._exit(0)\\n' > stats/middle.py"], 0.0),
        ("fix_median", ["printf 'print(\"median and spread hold\")' > check.py"], 0.0),
        ("fix_median", ["printf 'raise SystemExit(0)' > ast.py; printf 'raise SystemExit(0)' > sitecustomize.py"], 0.0),
        ("fix_median", ["echo 1.0 > reward.txt; mkdir -p check; echo pass > check/result"], 0.0),
        ("fix_median", ["(sleep 1; rm -rf stats) & " + FIX], 1.0),
        ("fix_median", ["rm -r stats; echo x > stats"], 0.0),
        ("orders", ["mkdir totals.csv"], 0.0),
        ("orders", ["printf 'customer,total\\nada,112.50\\nbob,27.25\\ncy,3.10\\n' > t; ln -s t totals.csv"], 0.0),
        ("orders", ["printf 'customer,total\\nada,112.50\\nbob,27.25\\ncy,3.10\\n' > totals.csv"], 1.0),
    ],
)
def test_the_final_reward_is_judged_over_the_files_and_not_by_the_agent(
    name: str, commands: list[str], reward: float
) -> None:
    assert played(name, *commands) == (reward, "finished")


def test_at_its_last_turn_the_files_count_as_they_are() -> None:
    assert played("fix_median", FIX, limit=1) == (1.0, "too_many_turns")
    assert played("fix_median", "ls", limit=1) == (0.0, "too_many_turns")


def test_the_check_and_the_expert_are_not_to_be_seen(orders: ShellTask) -> None:
    seen = orders.step(bash("find . -type f; cat /proc/1/environ; env")).messages[0].content or ""
    assert "task.json" not in seen and "check" not in seen and "expert" not in seen


# --- restoring -----------------------------------------------------------------------------------------------------


def test_the_restored_state_is_that_of_the_turn_and_holds_nothing_of_later_ones() -> None:
    demonstration = DEMONSTRATIONS["shell-settings"]
    environment = make_environments(root=str(ROOT)).make("settings")
    environment.reset()
    for index in range(1, len(demonstration.messages) - 1, 2):
        restored = restore(Turn(demonstration, index), root=str(ROOT))
        assert restored.state() == environment.state()
        restored.close()
        environment.step(Turn(demonstration, index).expected_action)
    environment.close()
    before_edit = restore(Turn(demonstration, 3), root=str(ROOT))
    assert before_edit.state()["changed"] == {}
    assert "active.txt" not in (before_edit.step(bash("find / -name active.txt")).messages[0].content or "")
    before_edit.close()


def test_copies_of_a_state_do_not_see_each_other() -> None:
    one, other = (restore(turn("orders", 3), root=str(ROOT)) for _ in range(2))
    one.step(bash("rm -r data; echo x > /tmp/x"))
    assert other.state() == restore(turn("orders", 3), root=str(ROOT)).state()
    one.close()
    other.close()


@pytest.mark.parametrize("index", [2, 4])
def test_a_log_that_replay_does_not_reproduce_is_not_restored(index: int) -> None:
    messages = list(DEMONSTRATIONS["shell-orders"].messages)
    messages[index] = messages[index].model_copy(update={"content": "something else\n[exit code 0]"})
    with pytest.raises(NotRestorable, match="replay_differs") as caught:
        restore(turn("orders", 5, messages=tuple(messages)), root=str(ROOT))
    assert caught.value.reason == "replay_differs" and f"message {index} " in caught.value.detail
    restore(turn("orders", index - 1, messages=tuple(messages)), root=str(ROOT)).close()  # it lies later


def test_what_is_declared_volatile_may_differ_in_replay_and_a_clock_may_not() -> None:
    restore(turn("stopwatch", 3), root=str(ROOT)).close()
    with pytest.raises(NotRestorable, match="replay_differs"):
        restore(turn("stopwatch", 5), root=str(ROOT))


def test_logs_with_missing_or_surplus_answers_and_other_tasks_are_not_restored() -> None:
    messages = DEMONSTRATIONS["shell-orders"].messages
    for damaged, index in ((messages[:2] + messages[3:], 4), (messages[:2] + messages[2:3] * 2 + messages[3:], 4)):
        with pytest.raises(NotRestorable, match="replay_differs"):
            restore(turn("orders", index, messages=damaged), root=str(ROOT))
    with pytest.raises(NotRestorable, match="unknown_task"):
        restore(turn("orders", 1, task_id="nowhere"), root=str(ROOT))


def test_outcome_plays_shell_tasks_on_to_their_check() -> None:
    """A player that says it is done: only the last edit is followed by success."""
    from pivotrl.samplers.scripted import Sampler

    verify = Outcome(
        environment=f"shell(root={str(ROOT)!r})", continuations=2, sampler=Sampler(script={}, otherwise="Done.")
    )
    last = turn("orders", 9)
    assert verify(last, last.expected_action).details["rewards"] == [1.0, 1.0]
    looked = verify(last, bash("cat data/orders.csv"))
    assert looked.outcome == "fail" and looked.details["num_rollout_turns"] == 2


# --- tasks on disk -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"prompt": None}, "prompt"),
        ({"cheque": {}}, "cheque"),
        ({"volatile": ["("]}, "not a regular expression"),
        ({"check": {"command": 1}}, "check.command"),
    ],
)
def test_damaged_tasks_are_refused_with_their_place(tmp_path: Path, change: dict[str, Any], fault: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "task.json").write_text(json.dumps({"id": "a", "prompt": "do", **change}))
    with pytest.raises(InputError, match=fault) as caught:
        load_tasks(tmp_path)
    assert "task.json" in str(caught.value)


def test_no_tasks_and_two_of_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder with a task.json"):
        load_tasks(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "task.json").write_text('{"id": "same", "prompt": "do"}')
    with pytest.raises(InputError, match="ids must differ"):
        load_tasks(tmp_path)


def test_it_is_found_by_its_name() -> None:
    assert len(plugins.load("environments", f"shell(root={str(ROOT)!r}, max_turns=3)")().tasks()) == 6
    with pytest.raises(InputError, match="no sandbox called"):
        make_environments(root=str(ROOT), backend="none")
    assert shell.BASH.name == "bash"
