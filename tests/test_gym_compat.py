"""Gym's rules, the odd ones included, by hand-checked cases and by the rows that Gym ships.

Run alone: python -m pytest tests/test_gym_compat.py
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pivotrl import plugins
from pivotrl.protocols import InputError, Turn, Verifier
from pivotrl.readers import nemo_gym
from pivotrl.records import Action, Message, Tool, ToolCall, Trajectory, Verdict
from pivotrl.verifiers import gym_compat

DATA = Path(__file__).parent / "data"


def call(name: str, arguments: Any = None) -> ToolCall:
    return ToolCall(name=name, arguments=arguments if isinstance(arguments, str) else json.dumps(arguments or {}))


def act(*calls: ToolCall | str) -> Action:
    """Calls, or one text."""
    if calls and isinstance(calls[0], str):
        return Action(content=calls[0])
    return Action(tool_calls=tuple(one for one in calls if isinstance(one, ToolCall)))


def turn(expected: Action, *tools: Tool, **foreign: Any) -> Turn:
    demonstrated = Message(role="assistant", content=expected.content, tool_calls=expected.tool_calls)
    messages = (Message(role="user", content="hello"), demonstrated)
    metadata = {"foreign": foreign} if foreign else {}
    return Turn(Trajectory(id="t", task_id="t", messages=messages, tools=tools, metadata=metadata), 1)


def answer(verdict: Verdict) -> tuple[str, float | None, str]:
    return verdict.outcome, verdict.reward, verdict.reason


def expects(verdict: Verdict, reward: float | None, reason: str) -> None:
    outcome = "no_verdict" if reward is None else "pass" if reward == 1.0 else "fail"
    assert answer(verdict) == (outcome, pytest.approx(reward), reason)


def f(**arguments: Any) -> Action:
    return act(call("f", arguments))


# --- single_step_tool_use_with_argument_comparison ----------------------------------------------------------------

ONE, TWO = call("f", {"a": 1}), call("f", {"a": 2})
COUNTED = {"parallel_tool_call_rewarding": True}


@pytest.mark.parametrize(
    ("expected", "action", "options", "reward", "reason"),
    [
        (act("hello there"), act(""), {}, 1.0, "expected_chat_message_found"),
        (act("hello there"), Action(), {}, 1.0, "expected_chat_message_found"),
        (act(""), act("x"), {}, 1.0, "expected_chat_message_found"),
        (act("hello there"), f(), {}, 0.0, "no_expected_chat_message"),
        (f(), act("hello"), {}, 0.0, "no_expected_tool_call"),
        (f(a=5), f(a=5.0), {}, 0.0, "argument_value_type_different"),
        (f(a=5.0), f(a=5), {}, 0.0, "argument_value_type_different"),
        (f(a=5.0), f(a=5.0000009), {}, 1.0, "expected_tool_call"),
        (f(a=5.0), f(a=5.0000011), {}, 0.0, "argument_value_different"),
        (f(a=5.0), f(a=5.4), {"floating_point_comparison_threshold": 0.5}, 1.0, "expected_tool_call"),
        (f(a=1), f(a=True), {}, 1.0, "expected_tool_call"),
        (f(a=True), f(a=1), {}, 0.0, "argument_value_type_different"),
        (f(a=None), f(a=None), {}, 1.0, "expected_tool_call"),
        (f(a=None), f(a="x"), {}, 0.0, "argument_value_type_different"),
        (f(a="Paris"), f(a="paris"), {}, 0.0, "argument_value_different"),
        (f(a="Paris"), f(a="Paris "), {}, 0.0, "argument_value_different"),
        (f(a=""), f(a=""), {}, 1.0, "expected_tool_call"),
        (f(a="a b c d"), f(a="a b c d"), {"word_count_similarity_threshold": 0.50}, 1.0, "expected_tool_call"),
        (f(a="a b c d"), f(a="a b c d"), {"word_count_similarity_threshold": 0.51}, 0.0, "argument_value_different"),
        (f(a="a b c d e"), f(a="a x y z w"), {}, 1.0, "expected_tool_call"),
        (f(a="from A to B"), f(a="from B to A"), {}, 1.0, "expected_tool_call"),
        (f(a="refund 120 USD to card ending 9"), f(a="refund 999 USD to card ending 9"), {}, 1.0, "expected_tool_call"),
        (
            f(a="rm -rf build"),
            f(a="git status now"),
            {"word_count_similarity_threshold": 0.0},
            1.0,
            "expected_tool_call",
        ),
        (f(a=1), f(a=1, b=None), {}, 0.0, "argument_object_keys_different"),
        (f(a=[1, 2]), f(a=[2, 1]), {}, 0.0, "argument_value_different"),
        (f(a=[1, 2]), f(a=[1]), {}, 0.0, "argument_list_length_different"),
        (f(), act(call("f", "")), {}, 0.0, "arguments_decode_error"),
        (f(), act(call("f", "null")), {}, 0.0, "argument_value_type_different"),
        (f(a=float("nan")), f(a=float("nan")), {}, 0.0, "argument_value_different"),
        (act(call("f", "[1]")), act(call("f", "[1]")), {}, 1.0, "expected_tool_call"),
        (f(a=1), act(call("f", '{"a": 2, "a": 1}')), {}, 1.0, "expected_tool_call"),
        (f(a=1), act(call("F", {"a": 1})), {}, 0.0, "unexpected_tool"),
        # an expected call that is no JSON is noticed only where it is compared
        (act(call("f", "{bad")), f(), {}, None, "gym_fails"),
        (act(call("f", "{bad")), act(call("f", "{bad")), {}, None, "gym_fails"),
        (act(call("f", "{bad")), act(call("g")), {}, 0.0, "unexpected_tool"),
        (act(call("f", "{bad")), act("x"), {}, 0.0, "no_expected_tool_call"),
        (act(ONE), act(TWO, ONE), {}, 1.0, "expected_tool_call"),
        (act(ONE), act(TWO, ONE), COUNTED, 0.0, "function_call_batch_length_different"),
        (act(ONE), act(TWO, ONE), {**COUNTED, "allow_superset": True}, 1.0, "expected_tool_call"),
        (act(ONE, TWO), act(TWO, ONE), {}, 1.0, "expected_tool_call_batch"),
        (act(ONE, TWO), act(ONE), {}, 0.0, "function_call_batch_length_different"),
        (
            act(ONE, TWO),
            act(ONE),
            {**COUNTED, "allow_subset": True, "parallel_tool_call_reward_mode": "f1"},
            2 / 3,
            "function_call_batch_length_different",
        ),
        (
            act(ONE, TWO),
            act(ONE),
            {**COUNTED, "allow_subset": True, "parallel_tool_call_reward_mode": "fractional"},
            1.0,
            "expected_tool_call_batch",
        ),
        (act(ONE, TWO), act(ONE), {**COUNTED, "allow_subset": True}, 1.0, "expected_tool_call_batch"),
        (
            act(ONE, TWO),
            act(ONE, call("f", {"a": 3})),
            {**COUNTED, "parallel_tool_call_reward_mode": "fractional"},
            0.5,
            "argument_value_different",
        ),
        (act(ONE, ONE), act(ONE, TWO), {}, 0.0, "argument_value_different"),
        # the first expected call fits both others' partners; served last it goes without, and its fault is told
        (
            act(call("f", {"a": "x y"}), call("f", {"a": "x z"}), call("f", {"a": "y z"})),
            act(call("f", {"a": "x p"}), call("f", {"a": "y q"}), call("f", {"b": 1})),
            {},
            0.0,
            "argument_object_keys_different",
        ),
        # greedy pairing would give the first call's only partner away
        (
            act(call("f", {"a": "x y"}), call("f", {"a": "x z"})),
            act(call("f", {"a": "x z"}), call("f", {"a": "y q"})),
            {},
            1.0,
            "expected_tool_call_batch",
        ),
    ],
)
def test_single_step(
    expected: Action, action: Action, options: dict[str, Any], reward: float | None, reason: str
) -> None:
    expects(gym_compat.verify(turn(expected), action, **options), reward, reason)


def test_the_category_is_gyms_own_text() -> None:
    verdict = gym_compat.verify(turn(f(a=5)), f(a=5.0))
    assert (
        verdict.details["category"]
        == "The type of an argument value in a tool call is different than the expected type"
    )


# --- swe_pivot ----------------------------------------------------------------------------------------------------


def bash(command: str, tool: str = "execute_bash") -> Action:
    return act(call(tool, {"command": command}))


def edit(**arguments: Any) -> Action:
    return act(call("str_replace_editor", {"path": "/w/p/m.py", **arguments}))


def view(*lines: int) -> Action:
    return edit(command="view", **({"view_range": lines} if lines else {}))


OLD_LINE = "    for one, other in zip(expected_values, actual_values, strict=True):"
NEW_LINE = OLD_LINE.replace("True", "False")
LARGE = edit(command="str_replace", old_str="a", new_str="b" * 600)


@pytest.mark.parametrize(
    ("expected", "action", "options", "reward", "reason"),
    [
        (bash("pytest x"), bash("pytest x", "bash"), {}, 1.0, "match"),
        (bash("pytest x"), bash("pytest x", "ExecuteBash"), {}, 1.0, "match"),
        (bash("pytest x"), bash("python -m pytest x"), {}, 0.0, "target_mismatch"),
        (bash("pytest a/b/c/x.py"), bash("pytest a/b/d/x.py"), {}, 0.0, "target_mismatch"),
        (bash("pytest x"), bash("/usr/bin/pytest x"), {}, 0.0, "similarity_below_threshold"),
        (bash("pytest x"), act(call("bash")), {}, 1.0, "match"),
        (bash("pytest x"), act(call("bash")), {"release": "0.7"}, 0.0, "target_mismatch"),
        (bash("pytest x"), act(call("bash", "{cut off")), {}, 1.0, "match"),
        (bash("pytest x"), act(call("bash", "null")), {}, 0.0, "unknown_error"),
        (bash("pytest x"), act(call("bash", "5")), {}, 0.0, "unknown_error"),
        (bash("pytest x"), act("Shall I?"), {}, 0.0, "model_output_invalid"),
        (act("Done."), act("Done."), {}, 0.0, "expected_action_invalid"),
        (act(ONE, TWO), act(ONE, TWO), {}, 0.0, "expected_action_invalid"),
        (view(10, 10), view(10, 10), {}, 0.0, "target_mismatch"),
        (view(10, 50), view(1, 100000), {}, 1.0, "match"),
        (view(10, 50), view(), {}, 1.0, "match"),
        (view(10, 50), view(40, 90), {}, 0.0, "target_mismatch"),
        (act(call("grep", {"pattern": "foo"})), act(call("glob", {"pattern": "*.txt"})), {}, 1.0, "match"),
        (act(call("finish")), act(call("submit")), {}, 1.0, "match"),
        (act(call("fetch", {"url": "a"})), act(call("fetch", {"url": "b"})), {}, 1.0, "match"),
        (act(call("fetch")), act(call("get")), {}, 0.0, "tool_name_mismatch"),
        (bash("pytest x"), act(call("bash", {"command": "pytest x"}), call("rm")), {}, 1.0, "match"),
        (
            edit(command="str_replace", old_str=OLD_LINE, new_str=OLD_LINE),
            edit(command="str_replace", old_str=OLD_LINE, new_str=NEW_LINE),
            {},
            1.0,
            "match",
        ),
        (LARGE, LARGE, {}, 1.0, "match"),
        (LARGE, LARGE, {"reward_mode": "continuous"}, 0.9, "partial_credit"),
        # likeness depends on which of the two comes first: 0.82 and 0.65
        (bash("ls ls build build"), bash("ls build ls build"), {}, 1.0, "match"),
        (bash("ls build ls build"), bash("ls ls build build"), {}, 0.0, "similarity_below_threshold"),
        # in a text of 200 letters and more the frequent ones are not looked at: 0.02, else 0.51
        (bash("ls " + "ba " * 100 + "c"), bash("ls " + "ab " * 100 + "c"), {}, 0.0, "target_mismatch"),
        # only 2000 letters are looked at
        (bash("git " + "a" * 1600 + "b" * 900), bash("git " + "a" * 1600 + "c" * 900), {}, 1.0, "match"),
        (
            bash("git " + "a" * 1500 + "b" * 900),
            bash("git " + "a" * 1500 + "c" * 900),
            {},
            0.0,
            "similarity_below_threshold",
        ),
        (bash("pytest /w/p/q/x.py"), bash("pytest /v/p/q/x.py"), {}, 1.0, "match"),
        (bash("bin/ls a"), bash("bin/ b"), {}, 0.0, "similarity_below_threshold"),
        (edit(command="view"), act(call("edit", {"path": "/v/p/m.py", "command": "view"})), {}, 1.0, "match"),
        (edit(command="view"), act(call("edit", {"path": "/w/q/m.py", "command": "view"})), {}, 0.0, "target_mismatch"),
        # similarity 0.6 lies half-way from 0.4 to 0.8
        (bash("git aaaaaa"), bash("git aabbbb"), {"reward_mode": "continuous"}, 0.75, "partial_credit"),
        (bash("git aaaaaa"), bash("git aabbbb"), {}, 0.0, "similarity_below_threshold"),
    ],
)
def test_swe_pivot(expected: Action, action: Action, options: dict[str, Any], reward: float, reason: str) -> None:
    expects(gym_compat.verify(turn(expected), action, server="swe_pivot", **options), reward, reason)


# --- terminus_judge -----------------------------------------------------------------------------------------------


def keys(*keystrokes: str, **rest: Any) -> str:
    return json.dumps({"analysis": "a", "plan": "p", "commands": [{"keystrokes": k} for k in keystrokes], **rest})


@pytest.mark.parametrize(
    ("expected", "action", "foreign", "reward", "reason"),
    [
        (keys("ls\n"), keys("ls\n", analysis="other words"), {}, 1.0, "match"),
        (keys("ls\n"), f"<think>{keys('no')}</think>\n{keys('ls' + chr(10))}", {}, 1.0, "match"),
        (keys("ls\n"), "a</think>b</think>" + keys("ls\n"), {}, 1.0, "match"),
        (keys("cd a\n", "ls\n"), keys("cd a\nls\n"), {}, 1.0, "match"),
        (keys(), keys(), {}, 1.0, "match"),
        (keys("ls\n"), keys(), {}, 0.0, "string_similarity_below_threshold"),
        (keys("rm -r /srv/aa\n"), keys("rm -r /srv/ab\n"), {}, 1.0, "match"),
        (
            keys("rm -r /srv/aa\n"),
            keys("rm -r /srv/ab\n"),
            {"threshold": 0.95},
            0.0,
            "string_similarity_below_threshold",
        ),
        (keys("ls\n"), keys("pwd\n"), {"threshold": 0}, 1.0, "match"),
        (keys("ls head ls head"), keys("ls ls head head"), {"threshold": 0.75}, 1.0, "match"),
        (
            keys("ls ls head head"),
            keys("ls head ls head"),
            {"threshold": 0.75},
            0.0,
            "string_similarity_below_threshold",
        ),
        (keys("ls\n"), keys("ls\n"), {"threshold": "high"}, None, "threshold_not_a_number"),
        (keys("ls\n"), keys("ls\n", task_complete=True), {}, 1.0, "match"),
        (keys("ls\n", task_complete=True), keys("ls\n"), {}, 0.0, "task_complete_check_failed"),
        (keys("ls\n"), keys("ls\n", mood="good"), {}, 0.0, "schema_check_failed"),
        (keys("ls\n"), "ls", {}, 0.0, "model_output_invalid"),
        (keys("ls\n"), "[1]", {}, 0.0, "model_output_invalid"),
        (keys("ls\n"), " ", {}, 0.0, "model_output_invalid"),
        ("ls", keys("ls\n"), {}, 0.0, "expected_answer_invalid"),
        (keys("ls\n"), keys("ls\n"), {"metadata": {"harness": "terminus_1"}}, 0.0, "expected_answer_invalid"),
        (keys("ls\n"), keys("ls\n"), {"metadata": {}}, 0.0, "unknown_harness"),
    ],
)
def test_terminus_judge(expected: str, action: str, foreign: dict[str, Any], reward: float | None, reason: str) -> None:
    row = turn(act(expected), **{"metadata": {"harness": "terminus_2"}, **foreign})
    expects(gym_compat.verify(row, act(action), server="terminus_judge"), reward, reason)


# --- terminal_multi_harness ---------------------------------------------------------------------------------------


def tool(name: str, **properties: str) -> Tool:
    kinds = {key: {"type": kind} for key, kind in properties.items()}
    return Tool(name=name, parameters={"type": "object", "properties": kinds})


TOOLS = (
    tool("exec_command", cmd="string", workdir="string"),
    tool("update_plan", plan="array"),
    tool("edit", filePath="string", oldString="string", newString="string"),
    tool("finish", reason="string", paths="array"),
    tool("grep"),
    tool("task"),
)


def run(command: Any, **rest: Any) -> Action:
    return act(call("exec_command", {"cmd": command, **rest}))


def change(old: str, new: str) -> Action:
    return act(call("edit", {"filePath": "m.py", "oldString": old, "newString": new}))


def grep(include: str) -> Action:
    return act(call("grep", {"pattern": "x", "path": ".", "include": include}))


def finish(reason: str, paths: Any) -> Action:
    return act(call("finish", {"reason": reason, "paths": paths}))


@pytest.mark.parametrize(
    ("harness", "expected", "action", "reward", "reason"),
    [
        ("codex", act("Done."), act("Anything"), 1.0, "expected_chat_message_found"),
        ("codex", act("Done."), act(" \n"), 0.0, "empty_message"),
        ("codex", act("Done."), Action(), 0.0, "empty_message"),
        ("codex", act("Done."), run("ls"), 0.0, "action_type_mismatch"),
        ("codex", run("ls"), act(*run("ls").tool_calls * 2), 0.0, "action_type_mismatch"),
        ("codex", run("ls -la /srv"), run("ls -la /srv\r\n"), 1.0, "expected_tool_call"),
        ("codex", run("rm -r /srv/a1"), run("rm -r /srv/a2"), 1.0, "expected_tool_call"),
        ("codex", run("ls"), run("pwd"), 0.0, "exec_command_cmd_similarity_below_threshold"),
        ("codex", run("ls"), run(5), 0.0, "tool_schema_validation_failed"),
        ("codex", run("ls"), act(call("exec_command")), 0.0, "exec_command_missing_cmd"),
        ("codex", run("ls"), run("ls", workdir="/"), 0.0, "unexpected_argument_keys"),
        ("codex", run("ls", workdir="/"), run("ls"), 1.0, "expected_tool_call"),
        ("codex", run("ls"), act(call("sudo", {"cmd": "ls"})), 0.0, "tool_schema_not_found"),
        ("codex", run("ls"), act(call("task")), 0.0, "unexpected_tool"),
        ("codex", run("ls"), act(call("exec_command", "{")), 0.0, "arguments_decode_error"),
        ("codex", run("ls"), act(call("exec_command", "[]")), 0.0, "arguments_not_object"),
        ("codex", act(call("exec_command", "{")), run("ls"), None, "gym_fails"),
        (
            "codex",
            act(call("update_plan", {"plan": [1]})),
            act(call("update_plan", {"plan": "[7]"})),
            1.0,
            "expected_tool_call",
        ),
        ("codex", act(call("update_plan", {"plan": [1]})), act(call("update_plan")), 0.0, "update_plan_empty_plan"),
        ("generic", run("ls"), run("pwd"), 1.0, "expected_tool_call"),
        ("opencode", change("a", "b"), change("anything", "else"), 1.0, "expected_tool_call"),
        ("opencode", change("a", "b"), change("x", "x"), 0.0, "argument_value_mismatch"),
        ("opencode", grep("*.py"), grep("*.py"), 1.0, "expected_tool_call"),
        ("opencode", grep("*.py"), grep("*.md"), 0.0, "argument_value_mismatch"),
        ("stirrup", finish("all done", ["a", "b"]), finish("All done ", '[" b", "a"]'), 1.0, "expected_tool_call"),
        ("stirrup", finish("all done", ["a"]), finish("all done", ["b"]), 0.0, "finish_paths_do_not_match"),
        ("stirrup", finish("all done", ["a"]), finish("all done", []), 0.0, "finish_missing_paths"),
        (
            "codex",
            act(call("task"), *run("ls").tool_calls),
            act(*run("ls").tool_calls, call("task")),
            1.0,
            "expected_tool_call_batch",
        ),
        (
            "codex",
            act(*run("ls").tool_calls * 2),
            act(*run("ls").tool_calls * 3),
            0.0,
            "function_call_batch_length_different",
        ),
    ],
)
def test_terminal_multi_harness(
    harness: str, expected: Action, action: Action, reward: float | None, reason: str
) -> None:
    row = turn(expected, *TOOLS, harness=harness)
    expects(gym_compat.verify(row, action, server="terminal_multi_harness"), reward, reason)


@pytest.mark.parametrize(("expected", "action", "passes"), [("a", "b", False), ("b", "a", True)])
def test_the_reason_to_finish_is_compared_the_other_way_round(expected: str, action: str, passes: bool) -> None:
    """Likeness depends on which text comes first, and here Gym puts the actual one first."""
    reasons = {"a": "ls head ls head", "b": "ls ls head head"}
    row = turn(finish(reasons[expected], ["x"]), *TOOLS, harness="stirrup", threshold=0.75)
    verdict = gym_compat.verify(row, finish(reasons[action], ["x"]), server="terminal_multi_harness")
    assert (verdict.outcome == "pass") is passes


def test_declared_tools_and_threshold_of_a_row_go_first() -> None:
    verify = partial(gym_compat.verify, server="terminal_multi_harness")
    assert verify(turn(run("ls"), *TOOLS, harness="codex", threshold=0), run("pwd")).outcome == "pass"
    assert verify(turn(run("ls"), *TOOLS, harness="codex", declared_tools=[]), run("ls")).reason == (
        "tool_schema_not_found"
    )
    parameters = {"type": "object", "required": ["cmd", "why"]}
    for declared in (
        {"type": "function", "name": "exec_command", "parameters": parameters},
        {"type": "function", "function": {"name": "exec_command", "parameters": parameters}},
    ):
        stricter = turn(run("ls"), *TOOLS, harness="codex", declared_tools=[declared])
        assert verify(stricter, run("ls")).reason == "tool_schema_validation_failed"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nothing"},
        {"$ref": "#/nowhere"},
        {"properties": {"cmd": {"pattern": "("}}},
        {"$ref": "http://127.0.0.1:9/schema.json"},
    ],
)
def test_no_call_fits_a_faulty_schema_and_nothing_is_fetched(schema: dict[str, Any]) -> None:
    row = turn(run("ls"), Tool(name="exec_command", parameters=schema))
    expects(gym_compat.verify(row, run("ls"), server="terminal_multi_harness"), 0.0, "tool_schema_validation_failed")


# --- xlam_fc ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "action", "reward", "reason"),
    [
        (f(a=1), f(a=1.0, b="more"), 1.0, "all_calls_match"),
        (f(a=1), f(a=True), 1.0, "all_calls_match"),
        (f(a=1), act(call("f", json.dumps('{"a": 1}'))), 1.0, "all_calls_match"),
        (f(), act(call("f", "no JSON")), 1.0, "all_calls_match"),
        (f(a=1), f(b=1), 0.0, "call_missing"),
        (f(a=1), act("text"), 0.0, "call_missing"),
        (act(ONE, TWO), act(TWO, ONE), 1.0, "all_calls_match"),
        (act(ONE, ONE), act(ONE, ONE), 1.0, "all_calls_match"),
        (act(ONE), act(ONE, TWO), 0.0, "number_of_calls_different"),
        (act("text"), act(""), 1.0, "all_calls_match"),
        (act("text"), f(), 0.0, "number_of_calls_different"),
        # greedy: the first expected call takes the only partner of the second
        (act(call("f"), ONE), act(ONE, TWO), 0.0, "call_missing"),
        (act(call("f", "[1]")), f(), None, "gym_fails"),
    ],
)
def test_xlam_fc(expected: Action, action: Action, reward: float | None, reason: str) -> None:
    expects(gym_compat.verify(turn(expected), action, server="xlam_fc"), reward, reason)


# --- what holds for all servers -----------------------------------------------------------------------------------


def test_alternatives_do_not_count() -> None:
    shown = turn(f(a=1)).trajectory.model_copy(update={"alternatives": {1: (f(a=2),)}})
    assert gym_compat.verify(Turn(shown, 1), f(a=2)).outcome == "fail"


@pytest.mark.parametrize("server", gym_compat.SERVERS)
def test_where_nothing_is_expected_there_is_no_verdict(server: gym_compat.Server) -> None:
    expects(gym_compat.verify(turn(Action()), act("x"), server=server), None, "no_expected_action")


@pytest.mark.parametrize("server", gym_compat.SERVERS)
@pytest.mark.parametrize(
    "arguments", ["[" * 100_000, '{"cmd": ' * 400 + "1" + "}" * 400, "9" * 5000, '{"a": 1', "\ud800"]
)
def test_no_action_makes_a_server_raise_or_pass(server: gym_compat.Server, arguments: str) -> None:
    bad = ToolCall.model_construct(name="exec_command", arguments=arguments, id=None)
    for action in (Action.model_construct(content=None, tool_calls=(bad,)), Action.model_construct(content=arguments)):
        verdict = gym_compat.verify(turn(run("ls -l"), *TOOLS, harness="codex"), action, server=server, release="0.7")
        assert verdict.outcome == "fail", verdict


@pytest.mark.parametrize("option", ["server", "parallel_tool_call_reward_mode", "reward_mode", "release"])
def test_an_option_of_no_known_value_is_refused(option: str) -> None:
    with pytest.raises(InputError, match=f"gym_compat: {option} is 'nothing'; give one of"):
        gym_compat.verify(turn(f()), f(), **{option: "nothing"})


def test_it_is_found_by_name() -> None:
    verify = plugins.load("verifiers", "gym_compat(server='swe_pivot', reward_mode='continuous')")
    assert verify(turn(LARGE), LARGE).reward == pytest.approx(0.9)


# --- the rows that Gym ships --------------------------------------------------------------------------------------

SHIPPED = {
    "nemo_gym/single_step_tool_use.jsonl": "single_step_tool_use_with_argument_comparison",
    "nemo_gym/parallel_tool_calls.jsonl": "single_step_tool_use_with_argument_comparison",
    "nemo_gym/rollouts_single_step_tool_use.jsonl": "single_step_tool_use_with_argument_comparison",
    "nemo_gym/swe_pivot.jsonl": "swe_pivot",
    "nemo_gym/terminus_judge.jsonl": "terminus_judge",
    "nemo_gym/xlam_fc.jsonl": "xlam_fc",
}


def rows(name: str) -> list[Turn]:
    read = [item for item in nemo_gym.read(DATA / name) if isinstance(item, Trajectory)]
    return [Turn(trajectory, len(trajectory.messages) - 1) for trajectory in read]


def assert_pays_where_due(name: str, verify: Verifier) -> None:
    """At every row the expected action is paid, and an undeclared call is not; nothing done
    is paid only where Gym accepts any chat message."""
    for row in rows(name):
        expected = row.expected_action
        assert verify(row, expected).outcome == "pass", row.id
        assert verify(row, act(call("no_such_tool", {"x": 1}))).outcome == "fail", row.id
        takes_any_text = "tool_use" in name or "parallel" in name
        is_paid = takes_any_text and not expected.tool_calls
        assert verify(row, Action()).outcome == ("pass" if is_paid else "fail"), row.id
        if expected.tool_calls:
            assert verify(row, act("I would rather not.")).outcome == "fail", row.id


@pytest.mark.parametrize(("name", "server"), SHIPPED.items())
def test_each_shipped_row_pays_for_its_expected_action_and_for_nothing_else(name: str, server: str) -> None:
    assert_pays_where_due(name, partial(gym_compat.verify, server=server))


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("paid_for", ["nothing done", "one row", "everything"])
def test_twin_a_server_that_pays_where_it_must_not_is_seen(name: str, paid_for: str) -> None:
    one = next(row.id for row in rows(name) if gym_compat.verify(row, Action(), server=SHIPPED[name]).outcome == "fail")

    def lax(row: Turn, action: Action) -> Verdict:
        is_lax = {"nothing done": action.is_empty, "one row": action.is_empty and row.id == one, "everything": True}
        if is_lax[paid_for]:
            return Verdict.passed()
        return gym_compat.verify(row, action, server=SHIPPED[name])

    with pytest.raises(AssertionError):
        assert_pays_where_due(name, lax)
