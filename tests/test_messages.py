"""Messages: what a reply must repeat, must not make up, and when nobody can tell.

Run alone: python -m pytest tests/test_messages.py
"""

from collections import Counter
from pathlib import Path

import pytest

from pivotrl.judging.messages.facts import HARD, facts
from pivotrl.judging.messages.free_text import normalised
from pivotrl.judging.messages.messages import compare_messages
from pivotrl.protocols import Turn
from pivotrl.readers import tau_bench
from pivotrl.reading.audit import audit
from pivotrl.records import Action, Message, Trajectory
from pivotrl.turns import cut
from pivotrl.verifiers import tool_call

DATA = Path(__file__).parent / "data"

CONTEXT = (
    Message(role="system", content="You are an airline agent. Never promise a refund before you have checked."),
    Message(role="user", content="Please move reservation NQNU5R, not IFOYYZ, to May 24, 2024, and tell me the cost."),
    Message(role="assistant", content="Let me look that up for you. Could you give me your user ID?"),
    Message(role="user", content="It is mia_li_3668, and I pay with the card ending in 7447."),
    Message(role="tool", content='{"fare": 255, "seats": 14, "flight": "HAT112"}'),
)
EXPECTED = "The change of reservation **NQNU5R** to May 24 costs $255 on your card ending in 7447. Shall I go ahead?"


@pytest.mark.parametrize(
    "text",
    [
        EXPECTED,
        "Sure! The change of reservation NQNU5R to May 24 costs $255.00 on your card ending in 7447. Shall I go ahead?",
        "The change of reservation NQNU5R to May 24th costs 255 dollars on the card ending in 7447. Shall I go ahead?",
    ],
)
def test_the_same_message_passes(text: str) -> None:
    assert compare_messages(EXPECTED, text, CONTEXT).outcome == "pass"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (EXPECTED.replace("255", "155"), "message_omits"),
        (EXPECTED.replace("NQNU5R", "IFOYYZ"), "message_omits"),
        (EXPECTED.replace("May 24", "May 25"), "message_omits"),
        (EXPECTED.replace("$255", "255 euros") + " That is $255.", "message_makes_up"),
        (EXPECTED + " There is a fee of $31 too.", "message_makes_up"),
        (EXPECTED + " Write to help@example.org.", "message_makes_up"),
        ("Sure.", "message_omits"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        (EXPECTED.replace(" Shall I go ahead?", " It is done."), "message_asks_nothing"),
        (CONTEXT[1].content, "copies_context"),
        (CONTEXT[2].content, "repeats_earlier_message"),
        (f"```\n{EXPECTED}\n```", "different_code"),
        ('{"name": "update", "arguments": {"reservation": "NQNU5R"}}', "different_structure"),
    ],
)
def test_what_contradicts_the_expected_message_fails(text: str, reason: str) -> None:
    verdict = compare_messages(EXPECTED, text, CONTEXT)
    assert (verdict.outcome, verdict.reason) == ("fail", reason)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (EXPECTED.replace("costs", "does not cost"), "negation"),
        (EXPECTED + " I wou", "breaks_off"),
        (EXPECTED + " Flight HAT112 has seats.", "adds_facts"),  # from the context, but true of this?
        (EXPECTED.replace("7447", "@").replace("255", "7447").replace("@", "255"), "order"),
        ("NQNU5R May 24 $255 7447?", "other_words"),
        (EXPECTED.replace("Shall I", "May I"), "other_words"),
        (EXPECTED.replace("costs", "may cost"), "other_words"),
        (EXPECTED.replace("The change of r", "R"), "other_words"),
        (EXPECTED.replace("change", "cancellation"), "opposites"),
        (EXPECTED.replace("Shall", "\u200bShall"), "hidden_characters"),
    ],
)
def test_what_cannot_be_told_gets_no_verdict(text: str, why: str) -> None:
    verdict = compare_messages(EXPECTED, text, CONTEXT)
    assert (verdict.outcome, verdict.reason, verdict.details["why"]) == ("no_verdict", "message_undecided", why)


def test_a_refusal_is_right_where_the_expert_declined() -> None:
    declined = "Unfortunately, I cannot change a basic economy flight."
    assert compare_messages(declined, "Unfortunately, I can't change a basic economy flight!", ()).outcome == "pass"
    assert compare_messages("Your basic economy flight is changed.", declined, ()).reason == "refusal"


def test_code_in_a_message_must_be_the_same() -> None:
    expected = "I list the files.\n```bash\nls -la\n```"
    assert compare_messages(expected, "I list files.\n\n```bash\nls -la\n```\n", ()).outcome == "pass"
    assert compare_messages(expected, "I list the files.\n```bash\nrm -r .\n```", ()).reason == "different_code"


def test_a_json_message_is_compared_as_json() -> None:
    assert compare_messages('{"a": 1, "b": "x"}', '{"b": "x",\n "a": 1.0}', ()).reason == "match"
    assert compare_messages('{"a": 1}', '{"a": 2}', ()).outcome == "no_verdict"
    assert compare_messages('{"a": 1}', "a is 1", ()).reason == "different_structure"


# --- real messages ------------------------------------------------------------------------------------------------


def real_messages() -> list[Turn]:
    read = tau_bench.read(DATA / "tau_bench" / "gpt-4o-airline.json")
    turns = cut([audit(item) for item in read if isinstance(item, Trajectory)])[0]
    return [turn for turn in turns if not turn.expected_action.tool_calls]


REAL = real_messages()


def test_real_messages_pass_against_themselves_and_others_do_not() -> None:
    outcomes: Counter[str] = Counter()
    for turn in REAL:
        said = turn.expected_action.content or ""
        assert tool_call.verify(turn, turn.expected_action).outcome == "pass"
        assert tool_call.verify(turn, Action(content=f"**{said}** \n")).outcome == "pass"
        for other in REAL:
            text = other.expected_action.content or ""
            if normalised(text) != normalised(said):
                outcome = tool_call.verify(turn, Action(content=text)).outcome
                outcomes[outcome] += 1
                assert outcome != "pass", (said, text)
    assert outcomes["fail"] > 2 * outcomes["no_verdict"], outcomes


def test_a_fact_changed_or_left_out_in_a_real_message_never_passes() -> None:
    num_changed = 0
    for turn in REAL:
        said = turn.expected_action.content or ""
        for kind, value in facts(said).found:
            if kind in HARD and kind != "quote" and value in said:
                for replaced in ("8319", "QX8319", *([""] if kind != "year" else [])):  # a date may lack its year
                    num_changed += 1
                    text = said.replace(value, replaced)
                    assert tool_call.verify(turn, Action(content=text)).outcome != "pass", (said, value)
    assert num_changed >= 60


def test_a_dump_of_the_context_never_passes() -> None:
    for turn in REAL:
        dump = "\n".join(message.content or "" for message in turn.context)
        for text in (dump, f"{turn.expected_action.content}\n{dump}"):
            assert tool_call.verify(turn, Action(content=text)).outcome != "pass"
