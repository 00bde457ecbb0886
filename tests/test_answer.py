"""Final answers: what counts as the same, what does not, and what must not be taken for an answer.

Run alone: python -m pytest tests/test_answer.py
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pivotrl import plugins
from pivotrl.judging.guarded import Verification
from pivotrl.plugins.describing import describe
from pivotrl.protocols import InputError, Turn
from pivotrl.records import Action, Message, ToolCall, Trajectory, Verdict
from pivotrl.verifiers import answer

pytest.importorskip("math_verify", reason="needs the extra 'answers'")


def turn(expected: str, question: str = "What is it?") -> Turn:
    messages = (Message(role="user", content=question), Message(role="assistant", content=expected))
    return Turn(Trajectory(id="t", task_id="t", messages=messages), 1)


def judged(expected: str, said: str, question: str = "What is it?", **options: Any) -> Verdict:
    return answer.verify(turn(expected, question), Action(content=said), **options)


SAME = [
    # numbers
    ("5", "5.0"),
    ("0.5", "1/2"),
    ("0.5", r"\frac{1}{2}"),
    ("1 1/2", "1.5"),
    ("1234.5", "1,234.50"),
    ("1234567", "1 234 567"),
    ("1500", r"1.5 \times 10^{3}"),
    ("1500", "1.5e3"),
    ("0.5", "50%"),
    ("$5", "5 USD"),
    ("$5.00", r"\$5"),
    ("-3", "\u22123"),
    ("3 apples", "3 apple"),
    ("3 km", r"3 \text{ km}"),
    ("42", "**42**."),
    ("42", "$42$"),
    # expressions
    ("x^2+2x+1", "(x+1)^2"),
    ("x^2+2x+1", "(x + 1)**2"),
    (r"\frac{\sqrt{2}}{2}", "1/sqrt(2)"),
    (r"\pi", "pi"),
    ("1024", "2^{10}"),
    ("x = 5", "$x=5$"),
    ("x=1 or x=2", "x=2, x=1"),
    (r"\{1,2\}", r"\{2,1\}"),
    (r"\sin^2 x + \cos^2 x", "1^1"),
    # dates
    ("2024-03-01", "March 1, 2024"),
    ("1 March 2024", "Friday, Mar 1st, 2024"),
    ("2024-12-25", "25/12/2024"),
    ("2024-12-25", "12/25/2024"),
    ("01/02/2024", "1/2/2024"),
    # text
    ("Paris", "paris"),
    ("New  York", "new york."),
]

DIFFERENT = [
    ("5", "5.0001"),
    ("5", "-5"),
    ("50%", "50"),
    ("1/3", "0.333333"),
    ("1.5", "1,5"),
    ("1234", "1,23,4"),
    ("$5", "€5"),
    ("$5", "5"),
    ("5", "$5"),
    ("3 km", "3 m"),
    ("5 mW", "5 MW"),
    ("5", "5 or 6"),
    ("5", "5, 6"),
    ("5", "about 5"),
    ("5", "not 5"),
    ("5", "fifteen"),
    ("5", "5!"),
    ("120", "5 !!!"),
    ("x^2", "x^3"),
    ("x^2", "x^2 or x^3"),
    ("(0,1]", "[0,1)"),
    (r"\{1,2\}", "(1,2)"),
    ("x^{10}", "x^1 0"),
    ("2024-03-01", "2024-03-02"),
    ("2024-02-01", "01/03/2024"),
    ("01/02/2024", "02/01/2024"),
    ("2024-03-01", "Monday, March 1, 2024"),  # a Friday
    ("2024-03-01", "March 2024"),
    ("cat", "act"),
    ("no", "on"),
    ("AB-12", "BA-12"),
    ("Paris", "Paris or London"),
    ("Paris", "It is Paris"),
]


@pytest.mark.parametrize(("expected", "said"), SAME)
def test_the_same_answer_in_other_words_passes_both_ways(expected: str, said: str) -> None:
    for one, other in ((expected, said), (said, expected)):
        assert judged(one, other).outcome == "pass", judged(one, other)
        assert judged(rf"So \boxed{{{one}}}", f"Thus.\n\n**Answer:** {other}").outcome == "pass"


@pytest.mark.parametrize(("expected", "said"), DIFFERENT)
def test_another_answer_fails(expected: str, said: str) -> None:
    verdict = judged(expected, said)
    assert (verdict.outcome, verdict.reward) == ("fail", 0.0), verdict
    assert judged(rf"\boxed{{{expected}}}", rf"\boxed{{{said}}}").outcome == "fail"


@pytest.mark.parametrize(
    ("kind", "options", "expected", "said", "reason"),
    [
        ("choice", {}, "B", "(B)", "match"),
        ("choice", {}, "B", "b", "match"),
        ("choice", {}, "B) Paris", "Option B: Paris", "match"),
        ("choice", {}, "B", r"\text{B}", "match"),
        ("choice", {}, "B", "C", "different_answer"),
        ("choice", {}, "B", "B) or C)", "unreadable_answer"),
        ("choice", {}, "B", "B. C. D.", "unreadable_answer"),
        ("choice", {}, "B", "Because", "unreadable_answer"),
        ("choice", {}, "Paris", "B", "expected_answer_unreadable"),
        ("list", {}, "1, 2, 3", "3; 2; 1.0", "match"),
        ("list", {}, "1, 2, 3", "[3, 1, 2]", "match"),
        ("list", {}, "red, green, and blue", "- Blue\n- red\n- green", "match"),
        ("list", {}, "1, 2, 2", "1, 1, 2", "different_answer"),
        ("list", {}, "1, 2, 3", "1, 2", "different_answer"),
        ("list", {}, "1, 2, 3", "1, 2, 3, 4", "different_answer"),
        ("list", {"ordered": True}, "1, 2, 3", "3, 2, 1", "different_answer"),
        ("list", {"ordered": True}, "1, 2, 1/2", "1, 2, 0.5", "match"),
        ("number", {"units": "optional"}, "5 km", "5", "match"),
        ("number", {"units": "optional"}, "5 km", "5 m", "different_unit"),
        ("number", {}, "5 km", "5", "different_unit"),
        ("number", {"relative_tolerance": 0.01}, "100", "101", "match"),
        ("number", {"relative_tolerance": 0.01}, "100", "101.1", "different_answer"),
        ("number", {"absolute_tolerance": 0.1}, "1", "1.1", "match"),
        ("number", {"absolute_tolerance": 0.1}, "1", "1.11", "different_answer"),
        ("number", {}, "many", "5", "expected_answer_unreadable"),
        ("date", {}, "2024-01-02", "soon", "unreadable_answer"),
        ("text", {}, "5", "5.0", "different_answer"),
        ("expression", {}, "2x", "x+x", "match"),
        ("expression", {}, "2x", "the sum of x and x", "unreadable_answer"),
    ],
)
def test_kinds_and_options(kind: str, options: dict[str, Any], expected: str, said: str, reason: str) -> None:
    assert judged(expected, said, kind=kind, **options).reason == reason


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (r"First \boxed{4}, no: \boxed{5}", "several_answers"),
        ("Answer: 4\nAnswer: 5", "several_answers"),
        ("\\boxed{5}\nAnswer: 6", "several_answers"),
        ("Answer: 1\nAnswer: 2", "several_answers"),
        ("\n".join(f"Answer: {n}" for n in range(200)), "several_answers"),
        (r"It is \boxed{5}. Answer: 5.0", "match"),
        (r"The answer is $\boxed{5}$.", "match"),
        ("Some work: 2 + 3 = 5\n#### 5", "match"),
        ("Final answer: 5", "match"),
        ("The final answer is 5.", "match"),
        (r"\boxed{}", "no_answer"),
        ("**Answer: 5**", "match"),
        (r"\boxed{\text{is } \{5\}}", "different_answer"),
        (r"\boxed{\boxed{5}", "match"),
        ("I think it may be 5", "unreadable_answer"),
        ("What is it?", "quotes_question"),
        ("5" * 60_000, "too_long"),
        ("", "empty_action"),
        ("  \n", "empty_action"),
    ],
)
def test_a_message_must_give_one_answer(said: str, reason: str) -> None:
    assert judged(r"\boxed{5}", said).reason == reason


@pytest.mark.parametrize(
    ("extraction", "said", "passes"),
    [
        ("boxed", r"\boxed{5}", True),
        ("boxed", "5", False),
        ("answer_line", "Answer: 5", True),
        ("answer_line", r"\boxed{5}", False),
        (("whole",), "5", True),
        (("whole",), "Answer: 5", False),
    ],
)
def test_only_the_places_that_are_named_count(extraction: Any, said: str, passes: bool) -> None:
    expected = {"boxed": r"\boxed{5}", "answer_line": "Answer: 5"}.get(str(extraction), "5")
    assert (judged(expected, said, extraction=extraction).outcome == "pass") == passes


@pytest.mark.parametrize(
    ("question", "expected", "said", "passes"),
    [
        ("Simplify (x+1)^2 - 2x.", "x^2+1", "(x+1)^2-2x", False),
        ("Simplify (x+1)^2 - 2x.", "x^2+1", "$ (x + 1)^2 - 2x $", False),
        ("Simplify (x+1)^2 - 2x.", "x^2+1", "1+x^2", True),
        (r"Find \int_0^1 2x dx", "1", r"\int_0^1 2x dx", False),
        (r"Find the integral of 2x from 0 to 1", "1", r"\int_0^1 2x dx", False),  # in no question, and still no answer
        ("What is 2^5 times 2^5?", "1024", "2^5*2^5", True),
        ("What is 2^5*2^5?", "1024", "2^5*2^5", False),
        ("Is it 5 or 6?", "5", "5", True),
        ("Is it 5 or 6?", "5", "Is it 5 or 6?", False),
        ("How many are 5.0 kg?", "5", "5.0", True),
    ],
)
def test_the_question_is_no_answer_to_itself(question: str, expected: str, said: str, passes: bool) -> None:
    assert (judged(expected, said, question).outcome == "pass") == passes


def test_what_takes_too_long_to_compare_gets_no_verdict_in_time_and_the_next_one_comes() -> None:
    judged("x^2", "x^2")
    for bomb in ("9^{9^{9}}", "9^{9^{9^{9}}} - x", r"\prod_{i=1}^{99999999} i"):
        start = time.monotonic()
        verdict = judged("x^2+1", bomb, timeout_seconds=0.3)
        assert time.monotonic() - start < 10
        assert verdict.outcome in ("fail", "no_verdict")
    assert judged("1^1", "9^{9^{9}}", timeout_seconds=0.3) == Verdict.unknown(
        "maths_timeout", expected="1^1", answer="9^{9^{9}}"
    )
    assert judged("x^2+1", "1+x^2").outcome == "pass"


def test_inside_a_guard_the_process_for_maths_goes_with_it() -> None:
    with Verification(with_grandchild) as guarded:
        verdict = guarded(turn("x^2-1"), Action(content="(x-1)(x+1)"))
    assert verdict.outcome == "pass"
    deadline = time.monotonic() + 5
    while Path(f"/proc/{verdict.details['grandchild']}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{verdict.details['grandchild']}/fd/0").exists()


def with_grandchild(turn: Turn, action: Action) -> Verdict:
    verdict = answer.verify(turn, action)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return verdict.model_copy(update={"details": {"grandchild": int(children[0])}})


@pytest.mark.parametrize(
    "said",
    [
        *("(" * 900, "\\frac{" * 150, "x^" * 400, "{" * 900, "9" * 999, "1e999999999", "-" * 900, "\\boxed{" * 6000),
        *("\n" * 49_000 + "x", "Answer:\n" * 6000, "*" * 49_000, ". " * 24_000, "'\"" * 24_000, "answer " * 7000),
        *("Answer: " + " " * 49_000, "1, " * 16_000, "x or " * 190),
    ],
)
def test_hostile_texts_fail_in_time(said: str) -> None:
    start = time.monotonic()
    assert judged("x^2", said, timeout_seconds=1.0).outcome in ("fail", "no_verdict")
    assert time.monotonic() - start < 10


def test_an_answer_submitted_through_a_tool() -> None:
    def submit(*values: Any, name: str = "finish", key: str = "answer") -> Action:
        calls = tuple(ToolCall(name=name, arguments=json.dumps({key: value})) for value in values)
        return Action(tool_calls=calls)

    def judge(action: Action, expected: Any = "5", **options: Any) -> str:
        messages = (
            Message(role="user", content="What is it?"),
            Message(role="assistant", tool_calls=submit(expected).tool_calls),
        )
        turn = Turn(Trajectory(id="t", task_id="t", messages=messages), 1)
        return answer.verify(turn, action, tool="finish", **options).reason

    assert judge(submit("5.0")) == judge(submit(5)) == judge(submit("5", 5.0)) == "match"
    assert judge(submit([3, 1]), [1, 3], kind="list") == "match"
    assert judge(submit("6")) == "different_answer"
    assert judge(submit("5", "6")) == "several_answers"
    assert judge(submit("5", name="other")) == "wrong_tool"
    assert judge(submit("5", key="result")) == "missing_argument"
    assert judge(submit("")) == "no_answer"
    assert judge(Action(content="5")) == "expected_tool_call"
    assert judge(Action(tool_calls=(ToolCall(name="finish", arguments='{"answer": '),))) == "arguments_not_json"
    assert judged("5", "5", tool="finish").reason == "no_expected_answer"


def test_any_accepted_action_will_do() -> None:
    messages = (Message(role="user", content="?"), Message(role="assistant", content="Paris"))
    others = {1: (Action(content="City of Light"),)}
    turn = Turn(Trajectory(id="t", task_id="t", messages=messages, alternatives=others), 1)
    assert answer.verify(turn, Action(content="city of light")).outcome == "pass"
    assert answer.verify(turn, Action(content="London")).reason == "different_answer"


@pytest.mark.parametrize("expected", ["", r"\boxed{4} or \boxed{5}", "Answer: 4\nAnswer: 5"])
def test_a_demonstration_without_one_answer_gives_no_verdict(expected: str) -> None:
    for said in ("4", expected or "5"):
        assert judged(expected, said).outcome == "no_verdict"


def test_options_are_checked() -> None:
    for options in ({"kind": "colour"}, {"extraction": "last"}, {"extraction": ()}, {"units": "any"}):
        with pytest.raises(InputError, match="answer: "):
            judged("5", "5", **options)
    loaded = plugins.load("verifiers", "answer(kind='list', ordered=True)")
    assert describe(loaded) == "pivotrl.verifiers.answer:verify(kind='list', ordered=True)"


@settings(max_examples=150, deadline=None, database=None)
@given(
    st.text("0123456789.,/%$€ -+eE^x=()[]{}\\frac boxedAnswer:#*\n;", max_size=24),
    st.sampled_from(["5", "1 May 2024", "a"]),
)
def test_no_text_raises_and_every_text_without_maths_equals_itself(text: str, expected: str) -> None:
    assert judged(expected, text, extraction="whole", kind="list").outcome in ("pass", "fail")
    assert judged(expected, text).outcome in ("pass", "fail")
    if text.strip():
        assert judged(text, text, kind="text", extraction="whole").outcome in ("pass", "no_verdict")
