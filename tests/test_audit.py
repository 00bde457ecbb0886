"""What a log lacks is told once, the same way for every format."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pivotrl.reading import audit as codes
from pivotrl.reading.audit import audit
from pivotrl.records import Loss, Message, Tool, ToolCall, Trajectory

FORMATS = Path(__file__).parents[1] / "docs" / "formats.md"
TOOL = Tool(name="search", parameters={"type": "object"})


def call(name: str = "search", arguments: str = '{"q": 1}', call_id: str | None = "c1") -> ToolCall:
    return ToolCall(name=name, arguments=arguments, id=call_id)


def assistant(*calls: ToolCall, content: str | None = None) -> Message:
    return Message(role="assistant", content=content, tool_calls=calls)


def result(call_id: str | None = "c1") -> Message:
    return Message(role="tool", content="found", tool_call_id=call_id)


SYSTEM, USER = Message(role="system", content="be brief"), Message(role="user", content="hello")


def audited(*messages: Message, **fields: object) -> Trajectory:
    given = {"id": "t", "task_id": "t", "messages": messages, "tools": (TOOL,), "reward": 1.0, **fields}
    return audit(Trajectory.model_validate(given))


def losses(trajectory: Trajectory) -> list[tuple[str, int | None]]:
    return [(loss.code, loss.message) for loss in trajectory.losses]


def test_a_whole_trajectory_lacks_nothing() -> None:
    whole = audited(SYSTEM, USER, assistant(call()), result(), assistant(content="done"))
    assert losses(whole) == [] and whole.excluded == {}


def test_what_is_missing_altogether() -> None:
    bare = audited(USER, assistant(call()), result(), assistant(content="done"), tools=(), reward=None)
    assert losses(bare) == [("system_missing", None), ("tools_missing", None), ("reward_unknown", None)]
    assert losses(audited(SYSTEM, USER, assistant(content="hi"), tools=())) == []  # no call, so no tool is missing


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ((assistant(call()), USER, assistant(content="x")), [("call_without_result", 2)]),
        ((result(), assistant(content="x")), [("result_without_call", 2)]),
        (
            (assistant(call()), result("other"), assistant(content="x")),
            [("result_without_call", 3), ("call_without_result", 2)],
        ),
        ((assistant(call()), result(), result(), assistant(content="x")), [("result_without_call", 4)]),
        ((assistant(call(call_id=None)), result(None), assistant(content="x")), []),  # no ids: the order decides
        ((assistant(call()), result(None), assistant(content="x")), []),
        ((assistant(call()),), []),  # the log ends with its last action
        (
            (assistant(call(), call(call_id="c2")), result("c2"), result("c1"), assistant(content="x")),
            [("several_calls", 2)],
        ),
    ],
)
def test_calls_and_results_are_paired(messages: tuple[Message, ...], expected: list[tuple[str, int]]) -> None:
    assert losses(audited(SYSTEM, USER, *messages)) == expected


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (assistant(), "empty_action"),
        (assistant(content=" \n"), "empty_action"),
        (assistant(call(arguments="{bad")), "bad_arguments"),
        (assistant(call(arguments="[1]")), "bad_arguments"),
        (assistant(call(arguments='{"a": NaN}')), "bad_arguments"),
        (assistant(call(), call(arguments='"{}"', call_id="c2")), "bad_arguments"),
        (assistant(call("fetch")), "unknown_tool"),
        (assistant(call()), None),
        (assistant(content="text"), None),
    ],
)
def test_turns_that_cannot_be_judged_are_excluded(message: Message, reason: str | None) -> None:
    assert audited(SYSTEM, USER, message).excluded == ({2: reason} if reason else {})


def test_without_declared_tools_no_tool_is_unknown() -> None:
    assert audited(SYSTEM, USER, assistant(call("fetch")), tools=()).excluded == {}


def test_after_a_lost_image_no_turn_is_what_the_agent_saw() -> None:
    seen = audited(
        SYSTEM, USER, assistant(content="a"), USER, assistant(content="b"), losses=(Loss(code="image", message=3),)
    )
    assert seen.excluded == {4: "context_incomplete"}


def test_the_readers_own_reason_goes_first() -> None:
    assert audited(SYSTEM, USER, assistant(), excluded={2: "synthetic"}).excluded == {2: "synthetic"}


def test_every_code_is_documented() -> None:
    text = FORMATS.read_text()
    listed = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert listed >= codes.LOSSES.keys() | codes.EXCLUSIONS.keys() | codes.DROPS.keys()
