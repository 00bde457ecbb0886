"""Equality by effects: what passes, what fails and what stays open, on real commands and on Plancraft.

Run alone: python -m pytest tests/test_execute.py
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pivotrl import plugins
from pivotrl.environments import shell
from pivotrl.plugins.describing import describe
from pivotrl.protocols import InputError, NotRestorable, Observation, Restore, Turn
from pivotrl.records import Action, Message, ToolCall, Trajectory
from pivotrl.sandbox import open_sandbox
from pivotrl.verifiers.execute import Execution

TESTS = Path(__file__).parent
ROOT = TESTS / "data" / "shell_tasks"
RESTORE = partial(shell.restore, root=str(ROOT), command_seconds=4.0)
DEMONSTRATIONS = {
    trajectory.id: trajectory
    for trajectory in map(Trajectory.model_validate_json, (ROOT / "demonstrations.jsonl").read_text().splitlines())
}
CORPUS = list(map(json.loads, (TESTS / "verifier_corpus" / "execute.jsonl").read_text().splitlines()))


def turn(name: str, **changes: Any) -> Turn:
    trajectory, _, index = name.rpartition("#")
    return Turn(DEMONSTRATIONS[trajectory].model_copy(update=changes), int(index))


def bash(command: str) -> Action:
    return Action(tool_calls=(ToolCall(name="bash", arguments=json.dumps({"command": command})),))


@pytest.fixture(scope="module")
def sandbox() -> None:
    try:
        open_sandbox()
    except InputError as error:
        pytest.skip(f"no sandbox here: {error}")


@pytest.fixture(scope="module")
def execute(sandbox: None) -> Execution:
    return Execution(environment=RESTORE)


# --- the corpus ----------------------------------------------------------------------------------------------------


def one_of_each(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first row of each kind, of the turns that are quickly restored; in order of the turns."""
    early = [row for row in rows if row["turn"].endswith(("#1", "#3")) and row["class"] != "time_limit"]
    first = {row["kind"]: row for row in reversed(early)}.values()
    return sorted(first, key=lambda row: str(row["turn"]))


def judge(execute: Execution, rows: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    found, wrong = Counter[tuple[str, str]](), []
    for row in rows:
        verdict = execute(turn(row["turn"]), Action.model_validate(row["action"]))
        found[row["expected"], verdict.outcome] += 1
        if verdict.outcome != row["expected"]:
            wrong.append((row["turn"], row["class"], row["action"], row["expected"], verdict))
    assert not wrong
    return found


def test_the_corpus_is_wide_enough() -> None:
    attacks = [row for row in CORPUS if row["kind"].endswith("/attack")]
    assert len(attacks) >= 120 and len({row["class"] for row in attacks}) >= 25
    assert sum(row["expected"] == "pass" for row in CORPUS) >= 50
    assert not any(row["expected"] == "pass" for row in attacks)


def test_one_of_each_kind_of_attack_fails_and_of_each_honest_variant_passes(execute: Execution) -> None:
    found = judge(execute, one_of_each(CORPUS))
    assert set(found) == {("fail", "fail"), ("pass", "pass"), ("no_verdict", "no_verdict")}


@pytest.mark.slow
def test_the_whole_corpus(execute: Execution) -> None:
    judge(execute, CORPUS)


# --- demonstrations ------------------------------------------------------------------------------------------------


def test_every_demonstrated_command_passes_against_itself_or_says_why_not(execute: Execution) -> None:
    reasons = {}
    for name in ("shell-log_report", "shell-stopwatch"):
        trajectory = DEMONSTRATIONS[name]
        for index in range(1, len(trajectory.messages), 2):
            verdict = execute(Turn(trajectory, index), Turn(trajectory, index).expected_action)
            assert verdict.outcome != "fail"
            if verdict.outcome == "no_verdict":
                reasons[f"{name}#{index}"] = verdict.reason
    assert reasons == {
        "shell-log_report#11": "expected_not_executed",  # a message
        "shell-stopwatch#3": "expected_not_deterministic",  # reads the clock
        **{f"shell-stopwatch#{index}": "replay_differs" for index in (5, 7, 9)},  # behind it
    }


def test_a_demonstration_that_does_not_do_what_the_log_says_gives_no_verdict(execute: Execution) -> None:
    messages = list(DEMONSTRATIONS["shell-orders"].messages)
    messages[4] = messages[4].model_copy(update={"content": "7\n[exit code 0]"})
    damaged = turn("shell-orders#3", messages=tuple(messages))
    assert execute(damaged, damaged.expected_action).reason == "expected_replay_differs"
    # the last turn of a log, with an answer behind it
    assert (
        execute(turn("shell-orders#3", messages=tuple(messages[:5])), damaged.expected_action).outcome == "no_verdict"
    )
    assert execute(turn("shell-orders#3", messages=tuple(messages[:4])), damaged.expected_action).outcome == "pass"


def test_any_accepted_action_will_do(execute: Execution) -> None:
    other, third = bash("head -n 2 data/orders.csv"), bash("head -n 1 data/orders.csv")
    expected = turn("shell-orders#1").expected_action
    assert execute(turn("shell-orders#1"), other).outcome == "fail"
    accepting = turn("shell-orders#1", alternatives={1: (other,)})
    outcomes = [execute(accepting, action).outcome for action in (expected, other, third)]
    assert outcomes == ["pass", "pass", "fail"]


def test_a_turn_of_the_same_name_is_not_taken_for_the_one_remembered(execute: Execution) -> None:
    messages = list(DEMONSTRATIONS["shell-orders"].messages[:2])
    messages[1] = Message(role="assistant", tool_calls=bash("cat data/refunds.csv").tool_calls)
    assert execute(turn("shell-orders#1"), bash("cat data/refunds.csv")).outcome == "fail"
    assert execute(turn("shell-orders#1", messages=tuple(messages)), bash("cat data/refunds.csv")).outcome == "pass"


def test_the_order_of_verdicts_does_not_change_them(execute: Execution) -> None:
    rows = [row for row in CORPUS if row["turn"] == "shell-tidy_names#3"][:3]
    again = Execution(environment=RESTORE)
    one = [execute(turn(row["turn"]), Action.model_validate(row["action"])) for row in rows]
    other = [again(turn(row["turn"]), Action.model_validate(row["action"])) for row in reversed(rows)]
    assert one == other[::-1]


# --- options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "command", "outcome"),
    [
        ("exact", "head -n 3 data/orders.csv; echo", "fail"),
        ("stripped", "head -n 3 data/orders.csv; echo", "pass"),
        ("stripped", "sed -n 's/$/  /; 1,3p' data/orders.csv", "pass"),
        ("stripped", "head -n 2 data/orders.csv", "fail"),
        ("stripped", "head -n 3 data/orders.csv; exit 1", "fail"),
        ("ignored", "head -n 3 data/orders.csv", "no_verdict"),  # a look, and what it shows does not count
    ],
)
def test_how_output_is_compared_can_be_chosen(sandbox: None, output: Any, command: str, outcome: str) -> None:
    verdict = Execution(environment=RESTORE, output=output)(turn("shell-orders#1"), bash(command))
    assert verdict.outcome == outcome, verdict


def test_ignored_output_still_leaves_exit_code_and_files(sandbox: None) -> None:
    execute = Execution(environment=RESTORE, output="ignored")
    commands = ("rm -v inbox/*.tmp", "rm inbox/*.tmp; false", "rm -v inbox/*")
    assert [execute(turn("shell-tidy_names#3"), bash(c)).outcome for c in commands] == ["pass", "fail", "fail"]


@pytest.mark.parametrize("options", [{"repeats": 1}, {"output": "fuzzy"}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="execute"):
        Execution(environment="plancraft", **options)


def test_by_name_with_options_and_in_a_manifest(sandbox: None) -> None:
    environment = f"shell(root={str(ROOT)!r})"
    verify = plugins.load("verifiers", f"execute(environment={environment!r}, output='stripped')")
    assert "output='stripped'" in describe(verify) and "_remembered" not in describe(verify)
    assert verify(turn("shell-orders#1"), turn("shell-orders#1").expected_action).outcome == "pass"
    with pytest.raises(InputError, match="exports no callable 'restore'"):
        Execution(environment="json:dumps")(turn("shell-orders#1"), bash("ls"))


# --- rules that any environment meets, on one that is a counter ----------------------------------------------------


class Counting:
    """``+`` adds one, ``?`` tells the number, ``x``.. misbehave."""

    def __init__(self, start: int, drift: Iterator[int]) -> None:
        self.value, self._drift = start, drift

    def step(self, action: Action) -> Observation:
        text = action.content or ""
        match text:
            case "+":
                self.value += 1
            case "+ end":
                self.value += 1
                return Observation((), reward=1.0, done=True)
            case "+ lose":
                self.value += 1
                return Observation((), reward=0.0, done=True)
            case "drift":
                self.value += next(self._drift)
            case "late" | "cut" | "broken" | "big":
                faults = {"late": "time_limit", "cut": "output_truncated", "broken": "sandbox_failed", "big": "killed"}
                return Observation((), fault=faults[text])
        told = str(self.value) if text == "?" else "2" if text == "2" else ""
        return Observation((Message(role="user", content=told),))

    def state(self) -> int:
        return self.value

    def controls(self) -> Iterator[tuple[Counting, bool]]:
        yield Counting(self.value + 5, self._drift), True

    def close(self) -> None: ...


def counting(start: int = 2) -> Restore:
    drift = iter(range(1, 1000))
    return lambda turn: Counting(start, drift)


def judged(expected: str, action: str, **options: Any) -> tuple[str, str]:
    messages = (Message(role="user", content="count"), Message(role="assistant", content=expected))
    at = Turn(Trajectory(id="t", task_id="t", messages=messages), 1)
    verdict = Execution(**{"environment": counting(), **options})(at, Action(content=action))
    return verdict.outcome, verdict.reason


@pytest.mark.parametrize(
    ("expected", "action", "outcome", "reason"),
    [
        ("+", "+", "pass", "same_effects"),
        ("+", "?", "fail", "different_return"),
        ("+", "nothing", "fail", "different_state"),
        ("+", "+ end", "fail", "different_return"),
        ("+ end", "+ end", "pass", "same_effects"),
        ("+ end", "+ lose", "fail", "different_reward"),
        ("?", "?", "pass", "same_effects"),
        ("?", "2", "fail", "independent_of_state"),
        ("2", "2", "pass", "same_effects"),
        ("2", "?", "fail", "different_elsewhere"),
        ("nothing", "nothing", "no_verdict", "expected_without_effect"),
        ("+", "drift", "no_verdict", "not_deterministic"),
        ("drift", "+", "no_verdict", "expected_not_deterministic"),
        ("+", "late", "no_verdict", "time_limit"),
        ("+", "big", "no_verdict", "killed"),
        ("+", "broken", "no_verdict", "sandbox_failed"),
        ("+", "cut", "fail", "output_truncated"),
        ("cut", "cut", "no_verdict", "expected_output_truncated"),
        ("late", "late", "no_verdict", "expected_time_limit"),
        ("", "+", "no_verdict", "no_expected_action"),
        ("+", " ", "fail", "empty_action"),
    ],
)
def test_outcome_and_reason(expected: str, action: str, outcome: str, reason: str) -> None:
    assert judged(expected, action) == (outcome, reason)


def test_a_state_that_cannot_be_restored_gives_no_verdict() -> None:
    def never(turn: Turn) -> Any:
        raise NotRestorable("replay_differs", "message 3")

    assert judged("+", "+", environment=never) == ("no_verdict", "replay_differs")


# --- Plancraft -----------------------------------------------------------------------------------------------------


def test_on_plancraft_it_agrees_with_the_verifier_by_distance_wherever_it_passes() -> None:
    """It is the stricter one: of the equally good moves it knows only those that lead to the same state."""
    pytest.importorskip("plancraft")
    from pivotrl.readers.plancraft import read
    from pivotrl.verifiers import plancraft

    execute, agreement = Execution(environment="plancraft"), Counter[tuple[str, str]]()
    for trajectory in read(Path("val"), difficulty=("easy", "medium"), max_tasks=4):
        indices = range(1, len(trajectory.messages), 2)
        moves = [Turn(trajectory, index).expected_action for index in indices]
        for index in indices:
            at = Turn(trajectory, index)
            assert execute(at, at.expected_action).outcome == plancraft.verify(at, at.expected_action).outcome == "pass"
            for move in (*moves, Action(content="move: from [I35] to [I36] with quantity 1")):
                agreement[execute(at, move).outcome, plancraft.verify(at, move).outcome] += 1
    assert agreement["pass", "fail"] == 0
    assert agreement["pass", "pass"] > 20 and agreement["fail", "fail"] > 40 and agreement["fail", "pass"] > 0
