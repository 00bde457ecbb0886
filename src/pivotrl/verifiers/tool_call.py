"""The default for tool use: calls equal to the accepted ones by the tools' schemas and by rules of the user.

Any of the turn's accepted actions will do: the demonstrated one, and others that the log or other runs of the task
show to be right. Calls may come in any order. Messages must have the same words; where words cannot decide, there is
no verdict. Meaning beyond that (an embedding, a judge) is for another verifier behind this one: ``first_decisive``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from pivotrl.judging.arguments.rules import rules_for
from pivotrl.judging.arguments.values import Difference, TooLarge, compare_json
from pivotrl.judging.messages.free_text import same_text
from pivotrl.judging.messages.messages import compare_messages
from pivotrl.judging.messages.pairing import match_all
from pivotrl.options import AtLeast0, AtLeast1
from pivotrl.protocols import InputError, Turn
from pivotrl.records import Action, ToolCall, Verdict
from pivotrl.records.strict_json import call_arguments
from pivotrl.rendering import parse_completion

MessageRule = Literal["coverage", "non_empty", "exact", "no_verdict"]
Call = tuple[str, dict[str, Any]]
"""(name, arguments)"""


def verify(
    turn: Turn,
    action: Action,
    *,
    rules: Mapping[str, str] | None = None,
    ignore_case: bool = False,
    ignore_arguments: Sequence[str] = (),
    harmless_tools: Sequence[str] = (),
    max_surplus: AtLeast0 = 2,
    message_rule: MessageRule = "coverage",
    max_argument_bytes: AtLeast1 = 200_000,
) -> Verdict:
    """Pass when the action calls the same tools with equal arguments, or writes a message that says the same.

    Args:
        rules: how single arguments are compared, such as ``{"send_email.body": "token_f1(0.7)", "*.reason":
            "ignore"}`` (:mod:`pivotrl.judging.arguments.rules`). Without a rule a text must be identical.
        ignore_case: ignore letter case in text arguments, but never in identifiers, enums and formats.
        ignore_arguments: names of arguments, of any tool, that are not compared.
        harmless_tools: names of tools that only read, with ``*`` for any characters: ``("get_*", "search_*")``. Up to
            ``max_surplus`` calls of them beside the expected ones are allowed.
        message_rule: how to compare where a message was demonstrated. ``coverage``: the expected message in the same
            words (:func:`~pivotrl.judging.messages.messages.compare_messages`). ``non_empty``: any text that holds
            no tool call; its content is not compared. ``exact``: the same text. ``no_verdict``: none, so that such
            turns are left out of training.
        max_argument_bytes: size limit for one call's arguments, and for a message; longer ones fail unread.

    Equality of arguments is that of :func:`~pivotrl.judging.arguments.values.compare_json`. Text beside tool calls is
    not compared, but may hold no call. A tool without a declared schema is compared only by type and value. With
    several accepted actions the verdict is the best one, the failure that of the nearest, and ``details["accepted"]``
    the number of the action it belongs to when that is not the demonstrated one.

    Reasons: match, match_with_harmless_surplus, same_words, message_not_compared; empty_action,
    expected_tool_call, unexpected_tool_call, unknown_tool, arguments_not_json, too_large, wrong_tool,
    surplus_tool_call, missing_tool_call, different_text, leaked_tool_call, those of :class:`Difference`,
    :func:`compare_messages` and :func:`parse_completion`; and without a verdict no_expected_action,
    expected_arguments_not_json, expected_message_not_parsable, expected_too_large, comparison_too_large,
    message_undecided, message_left_out, argument_undecided (a rule cannot decide, or there are blanks around an
    identifier).

    Raises:
        InputError: an option is invalid. Never for an action.
    """
    options = _Options(
        rules or {},
        ignore_case,
        frozenset({ignore_arguments} if isinstance(ignore_arguments, str) else ignore_arguments),
        (harmless_tools,) if isinstance(harmless_tools, str) else tuple(harmless_tools),
        max_surplus,
        message_rule,
        max_argument_bytes,
    )
    if message_rule not in get_args(MessageRule):
        raise InputError(f"no message rule called {message_rule!r}; there are {', '.join(get_args(MessageRule))}")
    if max_surplus < 0 or max_argument_bytes < 1:
        raise InputError("max_surplus must be 0 or more, and max_argument_bytes 1 or more")
    rules_for(rules or {}, "")  # report an invalid rule now, not at the first turn that it concerns
    accepted = turn.accepted_actions
    best = _verify_one(turn, accepted[0], action, options)
    for number, other in enumerate(accepted[1:], start=1):
        if best.outcome == "pass":
            break
        verdict = _verify_one(turn, other, action, options)
        if _nearness(verdict) > _nearness(best):
            best = verdict.model_copy(update={"details": {**verdict.details, "accepted": number}})
    return best


@dataclass(frozen=True)
class _Options:
    rules: Mapping[str, str]
    ignore_case: bool
    ignored: frozenset[str]
    harmless_tools: tuple[str, ...]
    max_surplus: int
    message_rule: MessageRule
    max_bytes: int

    def is_harmless(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.harmless_tools)

    def parse(self, call: ToolCall) -> Call:
        arguments = call_arguments(call.arguments)
        return call.name, {name: value for name, value in arguments.items() if name not in self.ignored}

    def too_large(self, *texts: str | None) -> bool:
        return any(text and len(text) * 4 > self.max_bytes and len(_bytes(text)) > self.max_bytes for text in texts)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


_FAULTS_OF_ACCEPTED = ("no_expected_action", "expected_arguments_not_json", "expected_message_not_parsable")
_FAR = ("empty_action", "expected_tool_call", "unexpected_tool_call", "unknown_tool", "arguments_not_json")
_MIDDLE = ("wrong_tool", "missing_tool_call", "surplus_tool_call")


def _nearness(verdict: Verdict) -> int:
    """The verdict that counts among several: a pass, else no verdict, else the failure that came closest."""
    if verdict.outcome == "pass":
        return 5
    if verdict.outcome == "no_verdict":
        return -1 if verdict.reason in _FAULTS_OF_ACCEPTED else 4
    return 1 if verdict.reason in _FAR else 2 if verdict.reason in _MIDDLE else 3


def _verify_one(turn: Turn, expected: Action, action: Action, options: _Options) -> Verdict:
    if expected.is_empty:
        return Verdict.unknown("no_expected_action")
    if options.too_large(expected.content, *(call.arguments for call in expected.tool_calls)):
        return Verdict.unknown("expected_too_large", limit=options.max_bytes)
    if expected.tool_calls:
        return _verify_calls(turn, expected, action, options)
    return _verify_message(turn, expected, action, options)


# --- calls --------------------------------------------------------------------------------------------------------


def _verify_calls(turn: Turn, expected: Action, action: Action, options: _Options) -> Verdict:
    try:
        wanted = [options.parse(call) for call in expected.tool_calls]
    except ValueError as error:
        return Verdict.unknown("expected_arguments_not_json", error=str(error))
    if not action.tool_calls:
        return Verdict.failed("empty_action" if action.is_empty else "expected_tool_call")
    if action.content and not options.too_large(action.content):
        fault = _read_message(action.content)[1]
        if fault not in (None, "empty_action", _read_message(expected.content)[1]):
            return Verdict.failed(fault)  # a further call, or a part of one, in the text beside the calls
    schemas = {tool.name: tool.parameters for tool in turn.trajectory.tools}
    known = {*schemas, *(name for name, _ in wanted)}
    for call in action.tool_calls:
        if schemas and call.name not in known:
            return Verdict.failed("unknown_tool", tool=call.name)
    num_surplus = len(action.tool_calls) - len(wanted)
    if num_surplus < 0 or num_surplus > (options.max_surplus if options.harmless_tools else 0):
        reason = "surplus_tool_call" if num_surplus > 0 else "missing_tool_call"
        return Verdict.failed(reason, expected=len(wanted), called=len(action.tool_calls))
    if options.too_large(*(call.arguments for call in action.tool_calls)):
        return Verdict.failed("too_large", limit=options.max_bytes)
    try:
        called = [options.parse(call) for call in action.tool_calls]
    except ValueError as error:
        return Verdict.failed("arguments_not_json", error=str(error))
    try:
        return _match_calls(wanted, called, schemas, options)
    except TooLarge as error:
        return Verdict.unknown("comparison_too_large", error=str(error))


def _match_calls(
    wanted: list[Call], called: list[Call], schemas: dict[str, dict[str, Any]], options: _Options
) -> Verdict:
    def compare(one: Call, other: Call) -> Difference | None:
        if one[0] != other[0]:
            return Difference("wrong_tool", "")
        rule_at = rules_for(options.rules, one[0])
        return compare_json(one[1], other[1], schemas.get(one[0]), ignore_case=options.ignore_case, rule_at=rule_at)

    table = [[compare(one, other) for other in called] for one in wanted]
    matched = match_all([[j for j, difference in enumerate(row) if difference is None] for row in table])
    if len(matched) < len(table):
        may_match = [[j for j, found in enumerate(row) if found is None or found.is_open] for row in table]
        if len(match_all(may_match)) == len(table) and _rest_is_harmless(wanted, called, options):
            still = next(found for row in table for found in row if found and found.is_open)
            return Verdict.unknown("argument_undecided", path=still.path)
    for i, row in enumerate(table):
        if i not in matched:
            # Nearest call first: one of the same tool that no other expected call needs.
            rest = [found for j, found in enumerate(row) if found and j not in matched.values()]
            nearest = next((found for found in rest if found.reason != "wrong_tool"), rest[0])
            return Verdict.failed(nearest.reason, tool=wanted[i][0], path=nearest.path)
    surplus = [called[j][0] for j in range(len(called)) if j not in matched.values()]
    for name in surplus:
        if not options.is_harmless(name):
            return Verdict.failed("surplus_tool_call", expected=len(wanted), called=len(called), tool=name)
    return Verdict.passed("match_with_harmless_surplus", surplus=surplus) if surplus else Verdict.passed()


def _rest_is_harmless(wanted: list[Call], called: list[Call], options: _Options) -> bool:
    surplus = Counter(name for name, _ in called) - Counter(name for name, _ in wanted)
    return all(map(options.is_harmless, surplus))


# --- messages -----------------------------------------------------------------------------------------------------


def _verify_message(turn: Turn, expected: Action, action: Action, options: _Options) -> Verdict:
    if options.message_rule == "no_verdict":
        return Verdict.unknown("message_left_out")
    wanted, fault = _read_message(expected.content)
    if fault:
        return Verdict.unknown("expected_message_not_parsable", fault=fault)
    if action.tool_calls:
        return Verdict.failed("unexpected_tool_call", tool=action.tool_calls[0].name)
    if options.too_large(action.content):
        return Verdict.failed("too_large", limit=options.max_bytes)
    given, fault = _read_message(action.content)
    if fault:
        return Verdict.failed(fault)
    if options.message_rule == "non_empty":
        return Verdict.passed("message_not_compared")
    if options.message_rule == "exact":
        return Verdict.passed() if same_text(wanted, given) else Verdict.failed("different_text")
    return compare_messages(wanted, given, turn.context)


def _read_message(text: str | None) -> tuple[str, str | None]:
    """(the text, why it is not a message, or None): a completion that should have become a tool call must not pass."""
    message, fault = parse_completion(text or "")
    if message.tool_calls:
        return "", "leaked_tool_call"
    return message.content or "", fault or ("empty_action" if message.is_empty else None)
