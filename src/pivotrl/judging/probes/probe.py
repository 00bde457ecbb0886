"""Probes, and the ways to make one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pivotrl.parsing import action_text, parse_completion
from pivotrl.protocols import Turn
from pivotrl.records import Action, Completion, ToolCall
from pivotrl.records.strict_json import parse_arguments

_COMMENTS = frozenset({"description", "summary", "security_risk", "thought", "explanation"})
_SUBJECTS = frozenset({"command", "cmd", "path", "file_path"})


@dataclass(frozen=True)
class Probe:
    """An action to test a verifier with at a turn, and the outcome it must have."""

    kind: str
    """``area/name``; the area is the class of the attack, or ``honest``, or ``self``."""
    action: Action
    text: str
    expected: Literal["pass", "fail"]
    certain: bool = True
    """False if a functional verifier may rightly disagree; such probes are reported separately."""
    parse_error: str | None = None
    """Why the text is not an action, as a sampler would report it."""
    demonstrated: Action | None = None
    """Replaces the turn's demonstrated action; None keeps it."""
    argument: str | None = None
    """``tool.argument`` if only this argument of a call is wrong."""

    @property
    def area(self) -> str:
        return self.kind.partition("/")[0]

    def completion(self) -> Completion:
        """The probe as if a sampler had drawn it."""
        return Completion(
            action=self.action,
            text=self.text,
            token_ids_T=(),
            logprobs_T=(),
            finish_reason="stop",
            parse_error=self.parse_error,
        )

    def turn(self, turn: Turn) -> Turn:
        """The turn at which the probe is judged."""
        if self.demonstrated is None:
            return turn
        message = turn.trajectory.messages[turn.index].model_copy(
            update={"content": self.demonstrated.content, "tool_calls": self.demonstrated.tool_calls}
        )
        messages = (*turn.trajectory.messages[: turn.index], message)
        return Turn(turn.trajectory.model_copy(update={"messages": messages, "alternatives": {}}), turn.index)


def attack(kind: str, action: Action, certain: bool = True) -> Probe:
    return Probe(kind, action, action_text(action), "fail", certain)


def attack_on(
    kind: str, action: Action, index: int, arguments: Mapping[str, Any], name: str | int, certain: bool = True
) -> Probe:
    """An attack that changes one argument of one call."""
    changed = with_arguments(action, index, arguments)
    return replace(attack(kind, changed, certain), argument=f"{action.tool_calls[index].name}.{name}")


def attack_instead(
    kind: str, action: Action, demonstrated: Mapping[str, Any], arguments: Mapping[str, Any], name: str
) -> Probe:
    """An attack that changes one argument of a replaced demonstration: the first call with these arguments."""
    instead = with_arguments(action, 0, demonstrated)
    return replace(attack_on(kind, action, 0, arguments, name), demonstrated=instead)


def attack_text(kind: str, text: str, certain: bool = True) -> Probe:
    """An attack that a model would have written as text; it is parsed as a sampler parses."""
    action, error = parse_completion(text)
    return Probe(kind, action, text, "fail", certain, error)


def honest(kind: str, action: Action, certain: bool = True) -> Probe:
    return Probe(f"honest/{kind}", action, action_text(action), "pass", certain)


def itself(kind: str, action: Action) -> Probe:
    """An action that must pass when it is itself the demonstration."""
    return Probe(f"self/{kind}", action, action_text(action), "pass", True, None, action)


def arguments_of(call: ToolCall) -> dict[str, Any] | None:
    """The arguments of a call; None when they are not a JSON object."""
    try:
        return parse_arguments(call.arguments)
    except ValueError:
        return None


def is_comment(arguments: Mapping[str, Any], name: str | int) -> bool:
    """Whether an argument only comments on a command or on a file operation beside it; a verifier may ignore it."""
    return name in _COMMENTS and name not in _SUBJECTS and not _SUBJECTS.isdisjoint(arguments)


def with_arguments(action: Action, index: int, arguments: Mapping[str, Any] | str) -> Action:
    """The action with other arguments, or other raw text of arguments, in one call."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return with_call(action, index, action.tool_calls[index].model_copy(update={"arguments": text}))


def with_call(action: Action, index: int, *calls: ToolCall) -> Action:
    """The action with one call replaced by others, or by none."""
    return with_calls(action, (*action.tool_calls[:index], *calls, *action.tool_calls[index + 1 :]))


def with_calls(action: Action, calls: Sequence[ToolCall]) -> Action:
    return action.model_copy(update={"tool_calls": tuple(calls)})


def same(one: Action, other: Action) -> bool:
    """Whether two actions are equal except for ids, blanks around text, and the spelling of their JSON."""
    return _meaning(one) == _meaning(other)


def _meaning(action: Action) -> tuple[str, list[tuple[str, str]]]:
    read = [(call, arguments_of(call)) for call in action.tool_calls]
    calls = [(c.name, c.arguments if found is None else json.dumps(found, sort_keys=True)) for c, found in read]
    return (action.content or "").strip(), calls
