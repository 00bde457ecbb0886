"""Honest variants of an action: the same decision written another way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pivotrl.judging.probes.commands import is_prose, is_shell
from pivotrl.judging.probes.edits import edits
from pivotrl.judging.probes.facts import leaves, replaced, schema_at
from pivotrl.judging.probes.probe import Probe, arguments_of, honest, itself, with_arguments, with_calls
from pivotrl.protocols import Turn
from pivotrl.records import Action, ToolCall


def same_action(turn: Turn) -> Iterator[Probe]:
    """Variants that are equal whatever the tools mean."""
    action = turn.expected_action
    for other in turn.accepted_actions[1:]:
        yield honest("accepted_alternative", other)
    if not action.tool_calls:
        yield honest("surrounding_blanks_in_text", Action(content=f"\n {action.content} \n"))
        return
    yield honest(
        "call_ids", with_calls(action, [c.model_copy(update={"id": f"x{i}"}) for i, c in enumerate(action.tool_calls)])
    )
    yield honest("text_beside_calls", action.model_copy(update={"content": "One moment."}))
    if len(action.tool_calls) > 1:
        # Commands and edits may depend on each other; calls that only read do not.
        free = not any(is_shell(call) for call in action.tool_calls) and not any(edits(action))
        yield honest("call_order", with_calls(action, tuple(reversed(action.tool_calls))), certain=free)
    for i, call in enumerate(action.tool_calls):
        arguments = arguments_of(call)
        if arguments is None:
            continue
        turned = dict(reversed(arguments.items()))
        yield honest("argument_order", with_arguments(action, i, turned))
        yield honest("json_blanks", with_arguments(action, i, json.dumps(arguments, indent=2, ensure_ascii=False)))
        yield honest("json_escapes", with_arguments(action, i, _escaped(arguments)))


def same_by_schema(turn: Turn) -> Iterator[Probe]:
    """Variants that are equal by the tool's schema."""
    action = turn.expected_action
    schemas = {tool.name: tool.parameters for tool in turn.trajectory.tools}
    for i, call in enumerate(action.tool_calls):
        arguments, schema = arguments_of(call), schemas.get(call.name, {})
        if arguments is None:
            continue
        for path, value in leaves(arguments):
            part = schema_at(schema, path)
            for raw in _number_forms(value):
                marked = replaced(arguments, path, "\u0000")
                text = json.dumps(marked, ensure_ascii=False).replace(json.dumps("\u0000"), raw)
                # Without a schema, a tool might distinguish 5.0 from 5.
                yield honest("number_form", with_arguments(action, i, text), certain=part.get("type") == "number")
            if isinstance(value, str) and "enum" in part and value.swapcase() != value:
                blanks = replaced(arguments, path, f" {value}")
                yield honest("blanks_around_a_choice", with_arguments(action, i, blanks), certain=False)
        required = schema.get("required") or []
        for name, part in (schema.get("properties") or {}).items():
            if name not in arguments and name not in required and isinstance(part, dict) and "default" in part:
                spelled = {**arguments, name: part["default"]}
                yield honest("default_spelled_out", with_arguments(action, i, spelled))
            if name not in arguments and name not in required and isinstance(part, dict) and "default" not in part:
                yield honest("null_for_absent", with_arguments(action, i, {**arguments, name: None}), certain=False)


def selves(turn: Turn) -> Iterator[Probe]:
    """Actions that a demonstration may hold, and that must be equal to themselves."""
    action = turn.expected_action
    yield itself("demonstrated", action)
    if not action.tool_calls:
        if is_prose(action):
            yield itself("short_message", Action(content="OK."))
        return
    for i, call in enumerate(action.tool_calls[:2]):
        arguments = arguments_of(call)
        if arguments is None:
            continue
        yield itself("no_arguments", with_calls(action, [ToolCall(name=call.name)]))
        for path, value in leaves(arguments):
            for edge in _edges(value):
                yield itself("edge_value", with_arguments(action, i, replaced(arguments, path, edge)))
        for name, value in arguments.items():
            if _is_range(value):
                yield itself("range_of_one", with_arguments(action, i, {**arguments, name: [value[0], value[0]]}))


def _escaped(arguments: dict[str, Any]) -> str:
    """The same JSON with every letter outside plain ASCII, and the first letter of each string, as an escape."""
    text = json.dumps(arguments)
    for value in {v for _, v in leaves(arguments) if isinstance(v, str) and v[:1].isalpha() and v.isascii()}:
        text = text.replace(json.dumps(value), f'"\\u{ord(value[0]):04x}{json.dumps(value)[2:]}', 1)
    return text


def _number_forms(value: Any) -> list[str]:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 10**9:
        return []
    return [f"{value}.0", f"{value}e0"]


def _edges(value: Any) -> list[Any]:
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, int | float):
        return [0, -1, 0.1]
    return ["", "\u00e9\U0001f600", "a b c d e f g h"]


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(v, int) for v in value)
