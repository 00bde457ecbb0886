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

from pivotrl.plugins import load
from pivotrl.protocols import InputError, Turn
from pivotrl.readers import nemo_gym, tau_bench
from pivotrl.reading.audit import audit
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
        (act(call("book", FLIGHT)), act(call("book", {**FLIGHT, "bags": 0})), "match"),
        (act(call("book", FLIGHT)), act(call("book", {**FLIGHT, "flight_id": "HAT1 "})), "argument_undecided"),
        (act(call("look")), act(call("look", "null")), "match"),
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
        (Action(content="Done."), Action(content="done."), "match"),
        (Action(content="Done."), Action(content='{"done": true}'), "different_structure"),
        (Action(content="Done."), Action(content="```\nlook\n```"), "different_code"),
        # A message that shares no word with the expected one used to pass; now nobody says that it is right.
        (Action(content="Done."), Action(content="Anything else?"), "message_undecided"),
    ],
)
def test_tool_call(expected: Action, action: Action, reason: str) -> None:
    verdict = {"match": "pass", "message_undecided": "no_verdict", "argument_undecided": "no_verdict"}.get(
        reason, "fail"
    )
    assert outcome(tool_call.verify(turn(expected), action)) == (verdict, reason)


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
    wrong: list[dict[str, Any]] = [
        {"message_rule": "any"},
        {"max_surplus": -1},
        {"rules": {"book.reason": "fuzzy"}},
        {"rules": {"book.reason": "token_f1(0)"}},
        {"rules": {"book.reason": "exact(0.5)"}},
        {"rules": {"reason": "ignore"}},
        {"rules": ["book.reason"]},
    ]
    for options in wrong:
        with pytest.raises(InputError):
            tool_call.verify(expected, shouted, **options)


def test_letter_case_of_identifiers_and_choices_always_counts() -> None:
    expected = turn(act(call("book", FLIGHT)))
    other = act(call("book", {**FLIGHT, "flight_id": "hat1"}))
    for options in ({"ignore_case": True}, {"rules": {"*.*": "normalised"}}, {"rules": {"book.flight_id": "token_f1"}}):
        assert tool_call.verify(expected, other, **options).reason == "different_value"


def test_rules_written_in_a_spec() -> None:
    verify = load("verifiers", 'tool_call(rules={"book.reason": "token_f1(0.7)", "*.city": "normalised"})')
    said = "The customer wants a refund of 120 USD for flight HAT1"
    expected = turn(act(call("book", {"flight_id": "HAT1", "city": "Paris", "reason": said})))
    for city, reason, passes in [
        (" paris", "Customer wants a refund of 120.00 USD for the flight HAT1.", True),
        ("Paris", said.replace("120", "999"), False),
        ("Rome", said, False),
    ]:
        action = act(call("book", {"flight_id": "HAT1", "city": city, "reason": reason}))
        assert (verify(expected, action).outcome == "pass") == passes


def test_surplus_calls_cost_unless_declared_harmless() -> None:
    expected = turn(act(call("book", FLIGHT)))
    booked, looked = call("book", FLIGHT), call("look", {"city": "Paris"})
    options: dict[str, Any] = {"harmless_tools": ("lo*",), "max_surplus": 2}
    assert tool_call.verify(expected, act(booked, looked)).reason == "surplus_tool_call"
    verdict = tool_call.verify(expected, act(looked, booked, looked), **options)
    assert outcome(verdict) == ("pass", "match_with_harmless_surplus") and verdict.details["surplus"] == ["look"] * 2
    for action, reason in [
        (act(looked, booked, looked, looked), "surplus_tool_call"),  # more than two
        (act(booked, booked), "surplus_tool_call"),  # booked twice
        (act(booked, call("look", "{")), "arguments_not_json"),
        (act(looked), "wrong_tool"),
        (act(booked, call("lost")), "unknown_tool"),
    ]:
        assert outcome(tool_call.verify(expected, action, **options)) == ("fail", reason)


def test_message_rules() -> None:
    expected = turn(Action(content="Your refund is $120."))
    other, same = Action(content="Hello!"), Action(content=" Your refund is $120.\n")
    assert outcome(tool_call.verify(expected, other)) == ("fail", "message_omits")
    assert outcome(tool_call.verify(expected, other, message_rule="non_empty")) == ("pass", "message_not_compared")
    assert outcome(tool_call.verify(expected, other, message_rule="exact")) == ("fail", "different_text")
    assert outcome(tool_call.verify(expected, same, message_rule="exact")) == ("pass", "match")
    for action in (same, Action(), act(call("look"))):
        assert tool_call.verify(expected, action, message_rule="no_verdict").outcome == "no_verdict"


def test_what_is_too_large_is_not_read() -> None:
    long = "x" * 300_000
    expected = turn(act(call("book", FLIGHT)))
    assert tool_call.verify(expected, act(call("book", {**FLIGHT, "city": long}))).reason == "too_large"
    assert tool_call.verify(turn(Action(content="x")), Action(content=long)).reason == "too_large"
    assert outcome(tool_call.verify(turn(Action(content=long)), Action(content="x"))) == (
        "no_verdict",
        "expected_too_large",
    )
    assert (
        tool_call.verify(turn(Action(content=long)), Action(content=long), max_argument_bytes=10**6).reason == "match"
    )


def test_unordered_arrays_without_end_give_no_verdict() -> None:
    """Each level multiplies the pairs to compare by 20 * 20."""

    def nested(last: int) -> list[Any]:
        return [[[last * 8000 + i * 400 + j * 20 + k for k in range(20)] for j in range(20)] for i in range(20)]

    one, other = (turn(act(call("tag", {"tags": nested(n)}))).expected_action for n in (0, 1))
    rules = {"tag.tags": "unordered"}
    assert tool_call.verify(turn(one), other, rules=rules).outcome == "fail"  # no item has an equal: seen at once
    mixed = nested(0)[::-1]
    verdict = tool_call.verify(turn(one), act(call("tag", {"tags": mixed})), rules=rules)
    assert outcome(verdict) == ("no_verdict", "comparison_too_large")
    assert tool_call.verify(turn(one), one, rules=rules).outcome == "pass"


# --- several accepted actions -------------------------------------------------------------------------------------


def accepting(demonstrated: Action, *others: Action) -> Turn:
    there = turn(demonstrated)
    return Turn(there.trajectory.model_copy(update={"alternatives": {1: others}}), 1)


@pytest.mark.parametrize("verify", VERIFIERS.values(), ids=VERIFIERS)
def test_any_accepted_action_passes(verify: Callable[[Turn, Action], Verdict]) -> None:
    booked, looked, asked = act(call("book", FLIGHT)), act(call("look")), Action(content="Shall I book HAT1?")
    there = accepting(booked, looked, asked)
    assert [verify(there, action).details.get("accepted") for action in (booked, looked, asked)] == [None, 1, 2]
    assert all(verify(there, action).outcome == "pass" for action in (booked, looked, asked))
    for action in (Action(), act(call("look", {"city": "x"})), act(call("book", FLIGHT), call("look")), act(call("x"))):
        assert verify(there, action).outcome == "fail"


def test_the_failure_told_is_that_of_the_nearest_accepted_action() -> None:
    there = accepting(act(call("look")), act(call("book", FLIGHT)), act(call("book", "{oops")))
    verdict = tool_call.verify(there, act(call("book", {**FLIGHT, "city": "Rome"})))
    assert outcome(verdict) == ("fail", "different_value") and verdict.details["path"] == "city"
    assert verdict.details["accepted"] == 1
    assert tool_call.verify(there, act(call("look", {"city": "x"}))).reason == "unexpected_argument"
    broken = accepting(act(call("book", "{oops")), act(call("look")))
    assert tool_call.verify(broken, act(call("look"))).outcome == "pass"


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
        verdict = verify(turn(expected), action)
        assert verdict.outcome in ("pass", "fail") or verdict.reason == "message_undecided"
