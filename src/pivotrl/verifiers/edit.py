"""Code edits: judged by the file that results, not by how the edit is written.

The expected and the sampled edit are applied to the file as the trajectory shows it. The results are compared as texts,
then as syntax trees: layout and comments do not count, strings and docstrings do. Nothing is executed.
"""

from __future__ import annotations

from collections.abc import Sequence

from pivotrl.judging.edits.calls import TOOLS, edits_of, same_family
from pivotrl.judging.edits.edits import Edit
from pivotrl.judging.edits.files import IGNORED, Surroundings, surroundings
from pivotrl.judging.edits.results import compare_edits
from pivotrl.protocols import Turn
from pivotrl.records import Action, ToolCall, Verdict
from pivotrl.records.strict_json import parse_arguments


def verify(
    turn: Turn,
    action: Action,
    *,
    tools: Sequence[str] = TOOLS,
    ignore_arguments: Sequence[str] = tuple(sorted(IGNORED)),
) -> Verdict:
    """Pass when the action leaves the same files as one of the accepted actions.

    Known are the editing tools of OpenHands, SWE-agent, Claude Code and Codex, and others with the same arguments.

    Args:
        tools: names of tools that edit.
        ignore_arguments: names of arguments that do not affect the edit.

    Reasons: same_edit, same_result (the texts are equal), same_tree (they differ in layout or comments),
    same_but_blanks (at the ends of lines, in text where they mean nothing); empty_action, not_an_edit_call,
    arguments_not_json, those of :func:`compare_edits` and of :func:`edits_of`; and without a verdict
    no_expected_action, not_an_edit (nothing accepted at this turn is an edit), expected_edit_not_readable,
    file_not_seen (the edits differ and may still do the same), only_comments_differ and only_blanks_differ (which may
    mean something to a tool).
    """
    if turn.expected_action.is_empty:
        return Verdict.unknown("no_expected_action")
    names = {tools} if isinstance(tools, str) else set(tools)
    ignored = {ignore_arguments} if isinstance(ignore_arguments, str) else set(ignore_arguments)
    now = surroundings(turn.trajectory.messages[: turn.index], tuple(names))
    wanted = []
    for index, accepted in enumerate(turn.accepted_actions):
        edits, fault = _edits(accepted, names, ignored, now)
        if not fault:
            wanted.append(edits)
        elif index == 0 and fault != "not_an_edit_call":
            return Verdict.unknown("expected_edit_not_readable", fault=fault)
    if not wanted:
        return Verdict.unknown("not_an_edit")
    edits, fault = _edits(action, names, ignored, now)
    if fault or (fault := _call_fault(turn, action, ignored)):
        return Verdict.failed(fault)
    found = [compare_edits(accepted, edits, now) for accepted in wanted]
    for outcome, verdict in (("same", Verdict.passed), ("not_known", Verdict.unknown)):
        for comparison in found:
            if comparison.outcome == outcome:
                return verdict(comparison.reason)
    return Verdict.failed(found[0].reason)


def _call_fault(turn: Turn, action: Action, ignored: set[str]) -> str | None:
    """Why the agent's tools would refuse a call: another agent's tool or argument names."""
    declared = {tool.name: tool.parameters.get("properties") for tool in turn.trajectory.tools}
    used = [call for accepted in turn.accepted_actions for call in accepted.tool_calls]
    known = {*declared, *(call.name for message in turn.trajectory.messages for call in message.tool_calls)}
    kept = {key for call in used for key in _arguments(call, ignored)}
    for call in action.tool_calls:
        if call.name not in known | {call.name for call in used}:
            return "unknown_tool"
        given, properties = _arguments(call, ignored), declared.get(call.name)
        is_other = not given.keys() <= properties.keys() if properties else not same_family(given, dict.fromkeys(kept))
        if is_other:
            return "unknown_argument"
    return None


def _arguments(call: ToolCall, ignored: set[str]) -> dict[str, object]:
    try:
        return {name: value for name, value in parse_arguments(call.arguments).items() if name not in ignored}
    except ValueError:
        return {}


def _edits(action: Action, names: set[str], ignored: set[str], now: Surroundings) -> tuple[list[Edit], str | None]:
    """(the edits of all calls, why the action is not one)"""
    if action.is_empty:
        return [], "empty_action"
    if not action.tool_calls or any(call.name not in names for call in action.tool_calls):
        return [], "not_an_edit_call"
    edits: list[Edit] = []
    for call in action.tool_calls:
        try:
            values = parse_arguments(call.arguments)
        except ValueError:
            return [], "arguments_not_json"
        kept = {name: value for name, value in values.items() if name not in ignored}
        try:
            found = edits_of(call.name, kept, open_file=now.open_file, directory=now.directory)
        except ValueError as error:
            return [], str(error)
        if not found:
            return [], "not_an_edit_call"
        edits += found
    return edits, None
