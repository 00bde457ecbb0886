"""An action put before a verifier: `verifier`, what was `expected`, the `actual` action, and `want`, the outcomes
that are right. Both actions are texts; or, with a `schema` of the tool `f`, the arguments of a call of it as text."""

from pathlib import Path
from typing import Any

from pivotrl.plugins import load
from pivotrl.protocols import Turn
from pivotrl.records import Action, Message, Tool, ToolCall, Trajectory
from pivotrl.rollouts import judge_action


def run(case: dict[str, Any], folder: Path) -> None:
    is_call = "schema" in case
    expected, actual = (
        Action(tool_calls=(ToolCall(name="f", arguments=case[side]),)) if is_call else Action(content=case[side])
        for side in ("expected", "actual")
    )
    said = Message(role="assistant", content=expected.content, tool_calls=expected.tool_calls)
    tools = (Tool(name="f", parameters=case["schema"]),) if is_call else ()
    messages = (Message(role="user", content="Please do it."), said)
    turn = Turn(Trajectory(id="t", task_id="t", messages=messages, tools=tools), 1)
    verdict = judge_action(turn, actual, load("verifiers", case["verifier"]))
    assert verdict.outcome in case["want"], (verdict.outcome, verdict.reason, verdict.details)
    assert judge_action(turn, expected, load("verifiers", case["verifier"])).outcome == "pass"
