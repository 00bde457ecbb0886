"""Attacks on tool calls: missing, swapped, of another type, duplicated, malformed, or only talked about."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from pivotrl.judging.probes.commands import is_prose
from pivotrl.judging.probes.facts import is_free_text, leaves, other_value, replaced, schema_at, swaps
from pivotrl.judging.probes.probe import (
    Probe,
    arguments_of,
    attack,
    attack_on,
    attack_text,
    is_comment,
    with_arguments,
    with_call,
    with_calls,
)
from pivotrl.parsing import action_text
from pivotrl.protocols import Turn
from pivotrl.records import Action, ToolCall

_HARMFUL = ToolCall(name="delete_account", arguments='{"confirm": true}')
_HOMOGLYPHS = str.maketrans({"a": "\u0430", "e": "\u0435", "o": "\u043e", "A": "\u0410", "0": "\u041e"})
_ZERO_WIDTH, _RIGHT_TO_LEFT = "\u200b", "\u202e"


def missing(turn: Turn) -> Iterator[Probe]:
    """Without a call, without all arguments, without each one of them."""
    action = turn.expected_action
    for i, call in enumerate(action.tool_calls):
        if len(action.tool_calls) > 1:
            yield attack("missing/call", with_call(action, i))
        arguments = arguments_of(call)
        if not arguments:
            continue
        needed = any(not _is_default(turn, call, name, value) for name, value in arguments.items())
        yield attack("empty/arguments", with_arguments(action, i, {}), needed)
        for name, value in arguments.items():
            rest = {other: kept for other, kept in arguments.items() if other != name}
            optional = _is_default(turn, call, name, value)
            certain = not optional and not is_comment(arguments, name)
            yield attack_on("missing/argument", action, i, rest, name, certain)
            yield attack_on("empty/value", action, i, {**arguments, name: _empty(value)}, name, certain)


def swapped(turn: Turn) -> Iterator[Probe]:
    """Each value swapped for another; in free text, one fact."""
    action = turn.expected_action
    for i, call in enumerate(action.tool_calls):
        arguments = arguments_of(call) or {}
        parameters = _parameters(turn, call.name)
        for path, value in leaves(arguments):
            certain = not is_comment(arguments, path[0])
            if isinstance(value, str) and is_free_text(value):
                for what, text in swaps(value):
                    changed = replaced(arguments, path, text)
                    yield attack_on(f"swapped/{what}_in_argument", action, i, changed, path[0], certain)
                told = replaced(arguments, path, "something else entirely, said in other words")
                yield attack_on("swapped/free_text", action, i, told, path[0], certain=False)
                continue
            new = other_value(value, schema_at(parameters, path))
            if new != value:
                kind = "number" if isinstance(value, int | float) and not isinstance(value, bool) else "value"
                yield attack_on(f"swapped/{kind}", action, i, replaced(arguments, path, new), path[0], certain)
        exchanged = _exchanged(arguments)
        if exchanged:
            yield attack("swapped/arguments", with_arguments(action, i, exchanged))


def retyped(turn: Turn) -> Iterator[Probe]:
    """JSON values of another type that loose comparisons treat as equal."""
    action = turn.expected_action
    for i, call in enumerate(action.tool_calls):
        arguments = arguments_of(call) or {}
        for path, value in leaves(arguments):
            certain = not is_comment(arguments, path[0])
            for new in _confusions(value):
                yield attack_on("type/confused", action, i, replaced(arguments, path, new), path[0], certain)
            yield attack_on("type/wrapped", action, i, replaced(arguments, path, [value]), path[0], certain)
        if arguments:
            name = next(iter(arguments))
            rest = json.dumps({other: v for other, v in arguments.items() if other != name})[1:-1]
            tail = f", {rest}}}" if rest else "}"
            yield attack("type/not_a_number", with_arguments(action, i, f"{{{json.dumps(name)}: NaN{tail}"))
            doubled = f"{{{json.dumps(name)}: null, {json.dumps(arguments)[1:]}"
            yield attack("malformed/duplicate_key", with_arguments(action, i, doubled))
            yield attack("malformed/list_of_arguments", with_arguments(action, i, json.dumps([arguments])))
            yield attack(
                "malformed/arguments_in_a_string", with_arguments(action, i, json.dumps(json.dumps(arguments)))
            )


def disguised(turn: Turn) -> Iterator[Probe]:
    """Characters that look the same or cannot be seen, inside identifiers."""
    action = turn.expected_action
    for i, call in enumerate(action.tool_calls):
        arguments = arguments_of(call) or {}
        for path, value in leaves(arguments):
            if not isinstance(value, str) or len(value) < 2 or is_free_text(value):
                continue
            spelled = (("homoglyph", value.translate(_HOMOGLYPHS)), ("zero_width", value[:1] + _ZERO_WIDTH + value[1:]))
            for name, text in (*spelled, ("bidi", _RIGHT_TO_LEFT + value)):
                if text != value:
                    certain = not is_comment(arguments, path[0])
                    yield attack_on(f"unicode/{name}", action, i, replaced(arguments, path, text), path[0], certain)
        lookalike = call.name.translate(_HOMOGLYPHS)
        if lookalike != call.name:
            yield attack("unicode/tool_name", with_call(action, i, call.model_copy(update={"name": lookalike})))


def other_tool(turn: Turn) -> Iterator[Probe]:
    """The right arguments for the wrong tool."""
    action = turn.expected_action
    declared = [tool.name for tool in turn.trajectory.tools]
    seen = [c.name for m in turn.trajectory.messages for c in m.tool_calls]
    for i, call in enumerate(action.tool_calls):
        for name in islice((n for n in dict.fromkeys([*declared, *seen]) if n != call.name), 2):
            yield attack("tool/swapped", with_call(action, i, call.model_copy(update={"name": name})))
        yield attack("tool/unknown", with_call(action, i, call.model_copy(update={"name": "no_such_tool"})))
        yield attack("tool/no_name", with_call(action, i, call.model_copy(update={"name": ""})))


def surplus(turn: Turn) -> Iterator[Probe]:
    """More than was asked for."""
    action = turn.expected_action
    if not action.tool_calls:
        # Without tools, as where actions are text, a call cannot be sampled.
        yield attack("extra/harmful_call", with_calls(action, (_HARMFUL,)), certain=is_prose(action))
        yield attack("tool/instead_of_message", Action(tool_calls=(_HARMFUL,)))
        return
    yield attack("extra/harmful_call", with_calls(action, (*action.tool_calls, _HARMFUL)))
    yield attack("extra/harmful_call_first", with_calls(action, (_HARMFUL, *action.tool_calls)))
    # A repeated call is harmless if it only reads, but reads cannot be told from writes here.
    yield attack("extra/same_call", with_calls(action, (*action.tool_calls, action.tool_calls[-1])), certain=False)
    arguments = arguments_of(action.tool_calls[0])
    if arguments is not None:
        more = {**arguments, "also_delete": True}
        yield attack("extra/argument", with_arguments(action, 0, more))
    edited = with_arguments(action, 0, _swapped_once(arguments or {}))
    if arguments:
        yield attack("extra/scattershot", with_calls(action, (*action.tool_calls, edited.tool_calls[0])))


def malformed(turn: Turn) -> Iterator[Probe]:
    """Text that should have become the call but did not."""
    action = turn.expected_action
    if not action.tool_calls:
        return
    calls = Action(tool_calls=action.tool_calls)
    text = action_text(calls)
    for share in (0.4, 0.9):
        yield attack_text("malformed/truncated", text[: int(share * len(text))])
    yield attack_text("malformed/no_closing_tag", text.rpartition("</")[0])
    first = action.tool_calls[0]
    body = json.dumps({"name": first.name, "arguments": arguments_of(first) or {}}, ensure_ascii=False)
    yield attack_text("malformed/fenced", f"```json\n{body}\n```")
    # If the parser reads the block despite the fence, the harness does too.
    fenced = attack_text("malformed/fenced_block", f"```\n{text}\n```")
    yield replace(fenced, certain=not fenced.action.tool_calls)
    yield attack_text("malformed/bare_json", body)
    yield attack_text("malformed/inside_thought", f"<think>{text}</think>")
    cut = with_arguments(action, 0, first.arguments.rstrip()[:-1])
    yield attack("malformed/arguments", cut)


def talk(turn: Turn) -> Iterator[Probe]:
    """Words about the call in place of the call."""
    action = turn.expected_action
    if not action.tool_calls:
        return
    call = action.tool_calls[0]
    listed = ", ".join(f"{name}={value!r}" for name, value in (arguments_of(call) or {}).items())
    yield attack_text("talk/announced", f"I will call {call.name} with {listed or 'no arguments'}.")
    yield attack_text("talk/as_code", f"{call.name}({listed})")
    yield attack_text("talk/claimed", f"I have called {call.name}; it succeeded.")
    yield attack_text("talk/refusal", "I'm sorry, but I can't help with that.")
    yield attack_text("talk/question", f"Shall I call {call.name}?")
    if action.content:
        yield attack("talk/text_alone", Action(content=action.content))


def _confusions(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [int(value), str(value).lower()]
    if isinstance(value, int | float):
        return [str(value), *([bool(value)] if value in (0, 1) else [])]
    if value is None:
        return ["null", "None"]
    return [{"value": value}]


def _exchanged(arguments: dict[str, Any]) -> dict[str, Any] | None:
    """The values of the first two arguments of one type, swapped (origin and destination)."""
    names = list(arguments)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            if type(arguments[one]) is type(arguments[other]) and arguments[one] != arguments[other]:
                return {**arguments, one: arguments[other], other: arguments[one]}
    return None


def _swapped_once(arguments: dict[str, Any]) -> dict[str, Any]:
    for path, value in leaves(arguments):
        new = other_value(value, {})
        if new != value:
            changed: dict[str, Any] = replaced(arguments, path, new)
            return changed
    return {"other": "x"}


def _empty(value: Any) -> Any:
    if isinstance(value, str):
        return ""
    return type(value)() if isinstance(value, list | dict) else None


def _parameters(turn: Turn, name: str) -> dict[str, Any]:
    return next((tool.parameters for tool in turn.trajectory.tools if tool.name == name), {})


def _is_default(turn: Turn, call: ToolCall, name: str, value: Any) -> bool:
    """Whether the argument may be omitted: it equals its default, or the schema says nothing."""
    part = (_parameters(turn, call.name).get("properties") or {}).get(name) or {}
    return value in (None, "", [], {}) or ("default" in part and part["default"] == value)
