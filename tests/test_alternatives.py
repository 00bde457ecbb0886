"""Actions that other runs of a task, or the log, hold to be as right as the demonstrated one.

Run alone: python -m pytest tests/test_alternatives.py
"""

import json
from pathlib import Path
from typing import Any

from pivotrl.protocols import Turn
from pivotrl.readers import chat
from pivotrl.reading.alternatives import MAX_ALTERNATIVES, count_alternatives, with_alternatives
from pivotrl.records import Action, Message, ToolCall, Trajectory
from pivotrl.verifiers import exact, tool_call


def call(name: str, call_id: str | None = None, **arguments: Any) -> Message:
    return Message(role="assistant", tool_calls=(ToolCall(name=name, arguments=json.dumps(arguments), id=call_id),))


def said(text: str) -> Message:
    return Message(role="assistant", content=text)


ASK = Message(role="user", content="Book a flight")


def run(name: str, *messages: Message, task: str = "t", reward: float | None = 1.0, **more: Any) -> Trajectory:
    return Trajectory(id=name, task_id=task, messages=(ASK, *messages), reward=reward, **more)


def test_runs_that_saw_the_same_learn_of_each_other() -> None:
    found = Message(role="tool", content="ok")
    one = run("1", call("find", "c1", to="Rome", on="May 1"), found, call("book", n=1))
    other = run("2", call("find", "c9", on="May 1", to="Rome"), found, said("Shall I book it?"))
    third = run("3", call("find", to="Oslo"), found, call("book", n=2))
    got = with_alternatives([one, other, third])
    # The same first call in another spelling is no alternative; Oslo is, and what follows it stands elsewhere.
    assert {
        i: [a.tool_calls[0].arguments for a in actions] for i, actions in got[0].alternatives.items() if i == 1
    } == {1: ['{"to": "Oslo"}']}
    assert got[0].alternatives[3] == (Action(content="Shall I book it?"),)
    assert got[1].alternatives[3] == (Action(tool_calls=one.messages[3].tool_calls),)
    assert list(got[2].alternatives) == [1]
    assert count_alternatives(got) == {"turns_with_alternatives": 5, "alternatives": 5}
    for verifier in (exact, tool_call):
        assert verifier.verify(Turn(got[0], 3), Action(content="Shall I book it?")).outcome == "pass"
        assert verifier.verify(Turn(one, 3), Action(content="Shall I book it?")).outcome == "fail"
        assert verifier.verify(Turn(got[0], 3), Action(content="Shall I not book it?")).outcome != "pass"


def test_nothing_is_shared_beyond_task_tools_context_and_success() -> None:
    one = run("1", call("book", n=1))
    others = [
        run("2", call("book", n=2), task="another"),
        run("3", call("book", n=3), reward=0.0),
        run("4", call("book", n=4), excluded={1: "error_turn"}),
        run("5", call("book", n=5), tools=({"name": "book"},)),
        run("6", said(" ")),
        run("7", Message(role="assistant", tool_calls=(ToolCall(name="book", arguments="{oops"),))),
        Trajectory(id="8", task_id="t", messages=(Message(role="user", content="Book two"), call("book", n=8))),
    ]
    got = with_alternatives([one, *others])
    assert got[0] == one
    # A run that failed still learns what the good one did.
    assert [action.tool_calls for action in got[2].alternatives[1]] == [one.messages[1].tool_calls]
    everyone = with_alternatives([one, *others], min_reward=None)
    assert [action.tool_calls for action in everyone[0].alternatives[1]] == [others[1].messages[1].tool_calls]


def test_it_is_pure_and_a_second_time_changes_nothing() -> None:
    runs = [run(str(n), call("book", n=n)) for n in range(20)]
    before = [item.model_copy(deep=True) for item in runs]
    once = with_alternatives(runs)
    assert runs == before
    assert with_alternatives(once) == once
    assert {len(item.alternatives[1]) for item in once} == {MAX_ALTERNATIVES}


def test_a_log_may_give_alternatives_itself(tmp_path: Path) -> None:
    accepted = [
        {"content": "Which day?"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "find", "arguments": {"to": "Rome"}}}]},
        {"role": "user", "content": "no action"},
        {"content": 5},
        "nonsense",
    ]
    row = {
        "messages": [{"role": "user", "content": "Book"}, {"role": "assistant", "content": "Where to?"}],
        "accepted_actions": {"1": accepted, "0": accepted, "7": accepted, "x": accepted, "²": accepted},
    }
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(row))
    [read] = chat.read(path)
    assert isinstance(read, Trajectory)
    [got] = with_alternatives([read])
    assert list(got.alternatives) == [1]
    first, second = got.alternatives[1]
    assert first.content == "Which day?" and second.tool_calls[0].name == "find"
    assert tool_call.verify(Turn(got, 1), second).details["accepted"] == 2
