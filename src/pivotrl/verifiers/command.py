"""Shell commands: the same command as the demonstrated one, up to spelling.

Equal are commands whose syntax is the same up to quoting, blanks, comments, the order of independent options, the
spelling of paths and harmless prefixes (:mod:`pivotrl.judging.shell.commands`). Nothing is executed. Commands that
differ in any other way fail, even if they would do the same.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

from pivotrl.judging.arguments.values import compare_json
from pivotrl.judging.shell.commands import is_empty, same_command
from pivotrl.judging.shell.directory import last_directory
from pivotrl.protocols import Turn
from pivotrl.records import Action, Verdict
from pivotrl.records.strict_json import parse_arguments, parse_json
from pivotrl.text.styles import bash
from pivotrl.text.tool_call_syntax import Unparsable

TOOLS = ("bash", "Bash", "execute_bash", "shell", "terminal", "run_command", "exec_command", "local_shell")
_TERMINUS_WORDS = ("analysis", "plan", "state_analysis", "explanation")
_TERMINUS_FLAGS = ("task_complete", "is_task_complete")
"""False if omitted."""
_FENCE = re.compile(r"^```(\w+)[ \t]*$", re.MULTILINE)

Command = tuple[str, str | tuple[str, ...], dict[str, Any]]
"""(tool, or the text form; the command or its words; other arguments)"""


def verify(
    turn: Turn,
    action: Action,
    *,
    tools: Sequence[str] = TOOLS,
    arguments: Sequence[str] = ("command", "cmd"),
    ignore_arguments: Sequence[str] = ("description", "summary", "security_risk", "thought"),
    directory: str | None = None,
) -> Verdict:
    """Pass when the action runs the same commands, in the same order, as one of the accepted actions.

    A command is a call of a shell tool; or, in a text without calls, the one code block (mini-swe-agent) or the
    keystrokes of a JSON answer (Terminus). The action must have the form of the accepted one. Text beside it is not
    compared.

    Args:
        tools: names of tools that run a command.
        arguments: names of the argument that holds it, as text or as a list of words.
        ignore_arguments: names of other arguments that are not compared; all others must be equal.
        directory: absolute path of the folder in which commands run. Left out, it is taken from the last message that
            tells it in the manner of SWE-agent, OpenHands or Codex.

    Reasons: match, same_text; empty_action, arguments_not_json, missing_argument, empty_command, not_a_command_call,
    wrong_tool, different_argument, surplus_command, missing_command, different_command; and without a verdict
    no_expected_action, not_a_command (nothing accepted at this turn is a command), expected_command_not_readable.
    """
    names = {tools} if isinstance(tools, str) else set(tools)
    holders = (arguments,) if isinstance(arguments, str) else tuple(arguments)
    ignored = {ignore_arguments} if isinstance(ignore_arguments, str) else set(ignore_arguments)
    if turn.expected_action.is_empty:
        return Verdict.unknown("no_expected_action")
    wanted = []
    for accepted in turn.accepted_actions:
        commands, fault = _commands(accepted, names, holders, ignored)
        if fault and accepted is turn.accepted_actions[0] and fault != "not_a_command_call":
            return Verdict.unknown("expected_command_not_readable", fault=fault)
        if commands and not fault:
            wanted.append(commands)
    if not wanted:
        return Verdict.unknown("not_a_command")
    commands, fault = _commands(action, names, holders, ignored)
    if fault:
        return Verdict.failed(fault)
    known = directory or last_directory(turn.context)
    verdicts = [_compare(accepted, commands, known) for accepted in wanted]
    return next((verdict for verdict in verdicts if verdict.outcome == "pass"), verdicts[0])


def _commands(
    action: Action, names: set[str], holders: Sequence[str], ignored: set[str]
) -> tuple[list[Command], str | None]:
    """(the commands, why the action is not one)"""
    if action.is_empty:
        return [], "empty_action"
    if not action.tool_calls:
        return _commands_in_text(action.content or "")
    if any(call.name not in names for call in action.tool_calls):
        return [], "not_a_command_call"
    found: list[Command] = []
    for call in action.tool_calls:
        try:
            values = parse_arguments(call.arguments)
        except ValueError:
            return [], "arguments_not_json"
        holder = next((name for name in holders if name in values), None)
        if holder is None:
            return [], "missing_argument"
        command = values.pop(holder)
        if isinstance(command, list) and all(isinstance(word, str) for word in command):
            command = tuple(command)
        elif not isinstance(command, str):
            return [], "missing_argument"
        if not command or (isinstance(command, str) and is_empty(command)):
            return [], "empty_command"
        found.append((call.name, command, {k: v for k, v in values.items() if k not in ignored} | {"": holder}))
    return found, None


def _commands_in_text(text: str) -> tuple[list[Command], str | None]:
    """What the one code block of a text runs, or what an answer of Terminus types, each with its line break."""
    if text.lstrip().startswith("{"):
        try:
            answer = parse_json(text)
        except ValueError:
            return [], "not_a_command_call"
        typed = answer.pop("commands", None) if isinstance(answer, dict) else None
        if not isinstance(typed, list) or not all(isinstance(item, dict) for item in typed):
            return [], "not_a_command_call"
        beside = {
            name: value
            for name, value in answer.items()
            if name not in _TERMINUS_WORDS and not (name in _TERMINUS_FLAGS and value is False)
        }
        found: list[Command] = []
        for item in typed:
            keys = item.pop("keystrokes", None)
            if not isinstance(keys, str) or not keys:
                return [], "empty_command"
            command = keys.removesuffix("\n")
            found.append(("keystrokes", command, {**item, "": [keys != command, beside]}))
        return found, None if found else "not_a_command_call"
    try:
        action = bash.parse(text, ())
    except Unparsable as error:
        return [], str(error)
    if not action.tool_calls:
        return [], "not_a_command_call"
    command = parse_arguments(action.tool_calls[0].arguments)["command"]
    fence = ", ".join(_FENCE.findall(text))  # a harness runs only its own kind of fence
    return [(f"code block of {fence}", command, {})], "empty_command" if is_empty(command) else None


def _compare(wanted: list[Command], commands: list[Command], directory: str | None) -> Verdict:
    if len(commands) != len(wanted):
        reason = "surplus_command" if len(commands) > len(wanted) else "missing_command"
        return Verdict.failed(reason, expected=len(wanted), called=len(commands))
    is_text = True
    for index, (expected, actual) in enumerate(zip(wanted, commands, strict=True)):
        if expected[0] != actual[0]:
            return Verdict.failed("wrong_tool", index=index)
        if compare_json(expected[2], actual[2]):
            return Verdict.failed("different_argument", index=index)
        if expected[1] == actual[1]:
            continue
        is_text = False
        if not _same(expected[1], actual[1], directory):
            return Verdict.failed("different_command", index=index)
    return Verdict.passed("same_text" if is_text else "match")


def _same(expected: str | tuple[str, ...], actual: str | tuple[str, ...], directory: str | None) -> bool:
    if isinstance(expected, str) and isinstance(actual, str):
        return same_command(expected, actual, directory=directory)
    if isinstance(expected, str) or isinstance(actual, str):
        return False
    if _is_script(expected) and _is_script(actual):
        return expected[:2] == actual[:2] and same_command(expected[2], actual[2], directory=directory)
    if _is_script(expected) or _is_script(actual) or "=" in expected[0] + actual[0]:  # a list assigns nothing
        return False
    return same_command(shlex.join(expected), shlex.join(actual), directory=directory)


def _is_script(words: tuple[str, ...]) -> bool:
    return len(words) == 3 and words[0].rpartition("/")[2] in ("bash", "sh") and words[1] in ("-c", "-lc")
