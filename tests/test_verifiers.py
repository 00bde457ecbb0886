"""What the exact and the tool-call verifier pass, fail and leave open, on real turns and on crafted ones.

Run alone: python -m pytest tests/test_verifiers.py
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pivotrl.logs.audit import audit
from pivotrl.protocols import Turn
from pivotrl.readers import nemo_gym, tau_bench
from pivotrl.records import Action, Message, Tool, ToolCall, Trajectory, Verdict
from pivotrl.rendering import action_text, parse_completion
from pivotrl.turns import cut
from pivotrl.verifiers import exact, tool_call

DATA = Path(__file__).parent / "data"
VERIFIERS = {"exact": exact.verify, "tool_call": tool_call.verify}

BOOK = Tool(
    name="book",
    parameters={
        "type": "object",
        "properties": {
            "flight_id": {"type": "string"},
            "city": {"type": "string"},
            "bags": {"type": "integer", "default": 0},
            "reason": {"type": "string"},
        },
        "required": ["flight_id"],
    },
)
LOOK = Tool(name="look", parameters={"type": "object", "properties": {"city": {"type": "string"}}})


def real_turns() -> Iterator[Turn]:
    files = sorted(DATA.glob("nemo_gym/[!r]*.jsonl"))
    trajectories = [t for file in files for t in nemo_gym.read(file)]
    trajectories += tau_bench.read(DATA / "tau_bench" / "gpt-4o-airline.json")
    for item in trajectories:
        if isinstance(item, Trajectory):
            yield from cut([audit(item)])[0]


REAL_TURNS = list(real_turns())


def call(name: str, arguments: Any = None) -> ToolCall:
    return ToolCall(name=name, arguments=arguments if isinstance(arguments, str) else json.dumps(arguments or {}))


def turn(expected: Action, tools: tuple[Tool, ...] = (BOOK, LOOK)) -> Turn:
    demonstrated = Message(role="assistant", content=expected.content, tool_calls=expected.tool_calls)
    messages = (Message(role="user", content="hello"), demonstrated)
    return Turn(Trajectory(id="t", task_id="t", messages=messages, tools=tools), 1)


def act(*calls: ToolCall, content: str | None = None) -> Action:
    return Action(content=content, tool_calls=calls)


def outcome(verdict: Verdict) -> tuple[str, str]:
    return verdict.outcome, verdict.reason


# --- contracts, on real turns -------------------------------------------------------------------------------------


def test_the_sample_holds_turns_of_every_kind() -> None:
    kinds = Counter(len(turn.expected_action.tool_calls) for turn in REAL_TURNS)
    assert kinds == {0: 31, 1: 23, 2: 3, 3: 1}


@pytest.mark.parametrize("verify", VERIFIERS.values(), ids=VERIFIERS)
@pytest.mark.parametrize("turn", REAL_TURNS, ids=lambda turn: turn.id)
def test_real_turns(turn: Turn, verify: Callable[[Turn, Action], Verdict]) -> None:
    """The demonstration passes, also when a policy writes it; every way to spoil it fails."""
    expected = turn.expected_action
    assert verify(turn, expected).outcome == "pass"
    rewritten, fault = parse_completion(action_text(expected))
    assert fault is None and verify(turn, rewritten).outcome == "pass"
    spoilt = [
        Action(),
        Action(content=" \n"),
        act(*expected.tool_calls, call("no_such_tool")),
        act(call("no_such_tool")),
    ]
    if expected.tool_calls:
        first, *rest = expected.tool_calls
        spoilt += [
            Action(content="I will do that."),
            act(*rest),
            act(first.model_copy(update={"arguments": '{"cut": "o'}), *rest),
            act(first.model_copy(update={"arguments": '{"something": "else"}'}), *rest),
        ]
    for action in spoilt:
        verdict = verify(turn, action)
        assert verdict.outcome == "fail" and verdict.reward == 0.0, action


# --- exact --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "action", "reason"),
    [
        (act(call("book", {"a": 1, "b": 2})), act(call("book", '{"b":2,  "a":1}')), "match"),
        (act(call("book", {"a": 1})), act(call("book", {"a": 1.0})), "match"),
        (act(call("book", {"a": 1})), act(call("book", {"a": True})), "different_tool_calls"),
        (act(call("book", {"bags": 0})), act(call("book")), "different_tool_calls"),
        (act(call("book"), call("look")), act(call("look"), call("book")), "different_tool_calls"),
        (act(call("book")), act(call("book"), call("book")), "different_tool_calls"),
        (act(call("book")), Action(content="x"), "different_tool_calls"),
        (act(call("book")), act(call("book", "[]")), "arguments_not_json"),
        (act(call("book")), act(call("book"), content="x"), "different_text"),
        (act(call("book"), content="x "), act(call("book"), content="\nx"), "match"),
        (Action(content="yes"), Action(content="Yes"), "different_text"),
        (Action(content="yes"), Action(), "empty_action"),
        (Action(content="yes"), act(call("book"), content="yes"), "different_tool_calls"),
    ],
)
def test_exact(expected: Action, action: Action, reason: str) -> None:
    assert outcome(exact.verify(turn(expected), action)) == ("pass" if reason == "match" else "fail", reason)


def test_exact_may_leave_text_beside_calls_out_but_never_text_alone() -> None:
    said = turn(act(call("book"), content="Booking."))
    assert exact.verify(said, act(call("book")), compare_text=False).outcome == "pass"
    assert exact.verify(turn(Action(content="yes")), Action(content="no"), compare_text=False).outcome == "fail"


# --- tool_call ----------------------------------------------------------------------------------------------------

FLIGHT = {"flight_id": "HAT1", "city": "Paris"}


@pytest.mark.parametrize(
    ("expected", "action", "reason"),
    [
        (act(call("book", FLIGHT)), act(call("book", {**FLIGHT, "flight_id": "HAT1 ", "bags": 0})), "match"),
        (act(call("book", FLIGHT)), act(call("book", FLIGHT), content="Booking now."), "match"),
        (act(call("book", FLIGHT)), act(call("book", {**FLIGHT, "city": "Rome"})), "different_value"),
        (act(call("book", FLIGHT)), act(call("book", {**FLIGHT, "city": "paris"})), "different_value"),
        (act(call("book", FLIGHT)), act(call("book", {**FLIGHT, "bags": True})), "unexpected_argument"),
        (act(call("book", FLIGHT)), act(call("book", {"city": "Paris"})), "missing_argument"),
        (act(call("book", FLIGHT)), act(call("look", FLIGHT)), "wrong_tool"),
        (act(call("book", FLIGHT)), act(call("Book", FLIGHT)), "unknown_tool"),
        (act(call("book", FLIGHT)), act(call("book", '{"flight_id": "HAT1"')), "arguments_not_json"),
        (act(call("book", FLIGHT)), act(call("book", '{"city": "a", "city": "Paris"}')), "arguments_not_json"),
        (act(call("book", FLIGHT)), act(call("book", "[" * 200_000)), "arguments_not_json"),
        (act(call("book", FLIGHT)), act(call("book", '["HAT1"]')), "arguments_not_json"),
        (act(call("book", FLIGHT)), Action(content="Shall I book it?"), "expected_tool_call"),
        (act(call("book", FLIGHT)), Action(), "empty_action"),
        (act(call("book", FLIGHT)), act(call("book", FLIGHT), call("look")), "surplus_tool_call"),
        (act(call("book", FLIGHT), call("look")), act(call("book", FLIGHT)), "missing_tool_call"),
        (act(call("book", FLIGHT), call("look")), act(call("look"), call("book", FLIGHT)), "match"),
        # the call of the same tool says why, not the nearest in line
        (
            act(call("book", FLIGHT), call("look", {"city": "x"})),
            act(call("look", {"city": "y"}), call("book", {**FLIGHT, "city": "Rome"})),
            "different_value",
        ),
        (act(call("look"), call("look")), act(call("look"), call("look", {"city": "x"})), "unexpected_argument"),
        (Action(content="Done."), act(call("look")), "unexpected_tool_call"),
        (Action(content="Done."), act(call("look"), content="Done."), "unexpected_tool_call"),
        (Action(content="Done."), Action(content="  "), "empty_action"),
        (Action(content="Done."), Action(content='<tool_call>{"name": "look"}</tool_call>'), "leaked_tool_call"),
        (Action(content="Done."), Action(content='<tool_call>{"name": "lo'), "tool_call_not_closed"),
        (Action(content="Done."), Action(content="<tool_call>look()</tool_call>"), "tool_call_is_not_json"),
        (Action(content="Done."), Action(content="<think>hm"), "thought_not_closed"),
        (Action(content="Done."), Action(content="<think>hm</think>"), "empty_action"),
        (Action(content="Done."), Action(content="Anything else?"), "message_not_compared"),
    ],
)
def test_tool_call(expected: Action, action: Action, reason: str) -> None:
    passes = reason in ("match", "message_not_compared")
    assert outcome(tool_call.verify(turn(expected), action)) == ("pass" if passes else "fail", reason)


def test_a_difference_names_tool_and_path() -> None:
    row = next(t for t in REAL_TURNS if any(c.name == "book_reservation" for c in t.expected_action.tool_calls))
    arguments = json.loads(row.expected_action.tool_calls[0].arguments)
    arguments["flights"][0]["date"] = "2024-05-29"
    verdict = tool_call.verify(row, act(call("book_reservation", arguments)))
    assert outcome(verdict) == ("fail", "different_value")
    assert verdict.details == {"tool": "book_reservation", "path": "flights[0].date"}


def test_a_demonstrated_tool_is_known_even_if_the_log_does_not_declare_it() -> None:
    undeclared = turn(act(call("cancel", FLIGHT)))
    assert tool_call.verify(undeclared, act(call("cancel", FLIGHT))).outcome == "pass"


def test_options() -> None:
    expected = turn(act(call("book", {**FLIGHT, "reason": "asked to"})))
    shouted = act(call("book", {**FLIGHT, "city": "PARIS", "reason": "asked to"}))
    assert tool_call.verify(expected, shouted).outcome == "fail"
    assert tool_call.verify(expected, shouted, ignore_case=True).outcome == "pass"
    assert tool_call.verify(expected, act(call("book", FLIGHT))).outcome == "fail"
    for ignored in (["reason"], "reason"):  # one name may stand without brackets
        assert tool_call.verify(expected, act(call("book", FLIGHT)), ignore_arguments=ignored).outcome == "pass"
    with pytest.raises(ValueError, match="'non_empty'"):
        tool_call.verify(expected, shouted, message_rule="any")  # type: ignore[arg-type]


def test_without_schemas_any_tool_is_known_and_nothing_is_optional() -> None:
    expected = turn(act(call("book", FLIGHT)), tools=())
    assert tool_call.verify(expected, act(call("other"))).reason == "wrong_tool"
    assert tool_call.verify(expected, act(call("book", {**FLIGHT, "bags": 0}))).reason == "unexpected_argument"


@pytest.mark.parametrize("verify", VERIFIERS.values(), ids=VERIFIERS)
def test_a_faulty_demonstration_gives_no_verdict(verify: Callable[[Turn, Action], Verdict]) -> None:
    for action in (act(call("book", FLIGHT)), Action(), Action(content="x")):
        broken = verify(turn(act(call("book", "{oops"))), action)
        assert outcome(broken) == ("no_verdict", "expected_arguments_not_json") and broken.reward is None
        assert outcome(verify(turn(Action(content=" ")), action)) == ("no_verdict", "no_expected_action")


def test_a_demonstration_that_is_an_unparsed_call_gives_no_verdict() -> None:
    leaked = turn(Action(content='<tool_call>{"name": "look", "arguments": {}}</tool_call>'))
    assert outcome(tool_call.verify(leaked, Action(content="x"))) == ("no_verdict", "expected_message_not_parsable")


@pytest.mark.parametrize("verify", VERIFIERS.values(), ids=VERIFIERS)
@settings(max_examples=80, deadline=None, database=None)
@given(
    arguments=st.text('{}[]":,a1N', max_size=20)
    | st.sampled_from(["{" * 5000, '{"flight_id": NaN}', '{"a":' * 99 + "1" + "}" * 99]),
    name=st.sampled_from(["book", "look", "", "\ud800"]),
    content=st.none() | st.lists(st.sampled_from(["<tool_call>", "</tool_call>", "<think>", "{}"])).map("".join),
    calls=st.integers(0, 3),
)
def test_no_action_makes_a_verifier_raise(
    verify: Callable[[Turn, Action], Verdict], arguments: str, name: str, content: str | None, calls: int
) -> None:
    sampled = ToolCall.model_construct(name=name, arguments=arguments, id=None)
    action = Action.model_construct(content=content, tool_calls=(sampled,) * calls)
    for expected in (act(call("book", FLIGHT)), act(call("book", '{"a":' * 99 + "1" + "}" * 99)), Action(content="x")):
        assert verify(turn(expected), action).outcome in ("pass", "fail")
