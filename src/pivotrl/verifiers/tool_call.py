"""The default for tool use: the demonstrated tool calls again, equal by the tools' schemas, in any order.

Where a message was demonstrated, any well-formed message passes: whether it says the same is not judged here, so a
turn of this kind cannot tell a good message from a poor one. Content equality is for a judge or a text verifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pivotrl.matching import Difference, compare_json, match_all
from pivotrl.protocols import Turn
from pivotrl.records import Action, ToolCall, Verdict
from pivotrl.rendering import parse_completion
from pivotrl.strict_json import parse_arguments

Call = tuple[str, dict[str, Any]]
"""(name, arguments)"""


def verify(
    turn: Turn,
    action: Action,
    *,
    ignore_case: bool = False,
    ignore_arguments: Sequence[str] = (),
    message_rule: Literal["non_empty"] = "non_empty",
) -> Verdict:
    """Pass when the action calls the same tools with the same arguments, or writes a message where one was written.

    Args:
        ignore_case: letter case in text arguments does not count.
        ignore_arguments: names of arguments, of any tool, that are not compared; for instance a free-text reason.
        message_rule: what an action must be where a message was demonstrated. ``non_empty``: text that is not empty
            and holds no tool call that failed to parse. Its content is not compared.

    Text beside tool calls is not compared. A tool without a declared schema is compared by type and value alone.

    Reasons: match, message_not_compared; empty_action, expected_tool_call, unexpected_tool_call, unknown_tool,
    arguments_not_json, wrong_tool, surplus_tool_call, missing_tool_call, those of :class:`Difference` and of
    :func:`parse_completion`, leaked_tool_call; and without a verdict no_expected_action,
    expected_arguments_not_json, expected_message_not_parsable.

    Raises:
        ValueError: an option has no such value. Never for an action.
    """
    if message_rule != "non_empty":
        raise ValueError(f"no message rule called {message_rule!r}; there is 'non_empty'")
    expected = turn.expected_action
    if expected.is_empty:
        return Verdict.unknown("no_expected_action")
    if not expected.tool_calls:
        return _verify_message(expected, action)
    ignored = {ignore_arguments} if isinstance(ignore_arguments, str) else set(ignore_arguments)
    try:
        wanted = [_parse(call, ignored) for call in expected.tool_calls]
    except ValueError as error:
        return Verdict.unknown("expected_arguments_not_json", error=str(error))
    if not action.tool_calls:
        return Verdict.failed("empty_action" if action.is_empty else "expected_tool_call")
    schemas = {tool.name: tool.parameters for tool in turn.trajectory.tools}
    known = {*schemas, *(name for name, _ in wanted)}
    for call in action.tool_calls:
        if schemas and call.name not in known:
            return Verdict.failed("unknown_tool", tool=call.name)
    try:
        called = [_parse(call, ignored) for call in action.tool_calls]
    except ValueError as error:
        return Verdict.failed("arguments_not_json", error=str(error))
    return _verify_calls(wanted, called, schemas, ignore_case)


def _parse(call: ToolCall, ignored: set[str]) -> Call:
    arguments = parse_arguments(call.arguments)
    return call.name, {name: value for name, value in arguments.items() if name not in ignored}


def _verify_calls(
    wanted: list[Call], called: list[Call], schemas: dict[str, dict[str, Any]], ignore_case: bool
) -> Verdict:
    if len(called) != len(wanted):
        reason = "surplus_tool_call" if len(called) > len(wanted) else "missing_tool_call"
        return Verdict.failed(reason, expected=len(wanted), called=len(called))

    def compare(one: Call, other: Call) -> Difference | None:
        if one[0] != other[0]:
            return Difference("wrong_tool", "")
        return compare_json(one[1], other[1], schemas.get(one[0]), ignore_case=ignore_case)

    table = [[compare(one, other) for other in called] for one in wanted]
    matched = match_all([[j for j, difference in enumerate(row) if difference is None] for row in table])
    for i, row in enumerate(table):
        if i not in matched:
            # Nearest call first: one of the same tool that no other expected call needs.
            rest = [found for j, found in enumerate(row) if found and j not in matched.values()]
            nearest = next((found for found in rest if found.reason != "wrong_tool"), rest[0])
            return Verdict.failed(nearest.reason, tool=wanted[i][0], path=nearest.path)
    return Verdict.passed()


def _verify_message(expected: Action, action: Action) -> Verdict:
    if fault := _message_fault(expected.content):
        return Verdict.unknown("expected_message_not_parsable", fault=fault)
    if action.tool_calls:
        return Verdict.failed("unexpected_tool_call", tool=action.tool_calls[0].name)
    if fault := _message_fault(action.content):
        return Verdict.failed(fault)
    return Verdict.passed("message_not_compared")


def _message_fault(text: str | None) -> str | None:
    """Why the text is no message: a completion that should have become a tool call must not pass for one."""
    message, fault = parse_completion(text or "")
    if message.tool_calls:
        return "leaked_tool_call"
    return fault or ("empty_action" if message.is_empty else None)
