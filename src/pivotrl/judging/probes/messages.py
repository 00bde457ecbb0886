"""Attacks with text: empty or copied text, another turn's action, a changed fact."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pivotrl.judging.probes.commands import is_prose, substance
from pivotrl.judging.probes.facts import facts, swaps
from pivotrl.judging.probes.probe import Probe, attack, attack_text
from pivotrl.parsing import action_text
from pivotrl.protocols import Turn
from pivotrl.records import Action

_BLANKS = (" \n", "\u200b", "\u00a0\u3000")
_MAX_COPIED = 20_000
"""Characters of a copied text; a policy cannot write more."""


def empty(turn: Turn) -> Iterator[Probe]:
    yield attack("empty/text", Action())
    yield from (attack("empty/blank", Action(content=blank)) for blank in _BLANKS)
    yield attack_text("empty/thought_alone", "<think>The user wants something.</think>")
    yield attack("empty/punctuation", Action(content="."))


def copied(turn: Turn) -> Iterator[Probe]:
    """Copies of the context."""
    for role, name in (("user", "user_message"), ("system", "system_prompt"), ("tool", "tool_result")):
        found = next((m.content for m in reversed(turn.context) if m.role == role and m.content), None)
        if found:
            # A short result may be the right answer.
            told = _words(found) <= _words(turn.expected_action.content or "")
            yield attack(f"copied/{name}", Action(content=found[:_MAX_COPIED]), certain=not told)
    whole = "\n\n".join(message.content for message in turn.context if message.content)
    if whole:
        yield attack("copied/context", Action(content=whole[-_MAX_COPIED:]))
    previous = next((m for m in reversed(turn.context) if m.role == "assistant"), None)
    if previous is not None:
        repeated = Action(content=previous.content, tool_calls=previous.tool_calls)
        # Repeating a call, or a short reply, may be right; repeating one that names facts is not.
        told = is_prose(repeated) and bool(facts(repeated.content or "")) and is_prose(turn.expected_action)
        crossed = bool(repeated.tool_calls) != bool(turn.expected_action.tool_calls)
        yield attack("copied/previous_turn", repeated, certain=told or crossed)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def other_turns(turn: Turn, near: Sequence[Turn], far: Sequence[Turn]) -> Iterator[Probe]:
    """Actions of the same trajectory (``near``) and of other tasks (``far``).

    One of another task is certainly wrong when it names facts that this turn's context does not hold, or calls where
    this turn speaks. One of the same trajectory may be a step that is also right here.
    """
    for other in near:
        yield attack("other_turn/same_trajectory", other.expected_action, certain=False)
    known = facts("\n".join(f"{m.content} {action_text(m)}" for m in turn.context) + action_text(turn.expected_action))
    for other in far:
        action = other.expected_action
        foreign = bool(facts(substance(action)) - known)
        crossed = bool(action.tool_calls) != bool(turn.expected_action.tool_calls)
        yield attack("other_turn/other_task", action, certain=foreign or crossed)


def swapped(turn: Turn) -> Iterator[Probe]:
    """The demonstrated message with one fact changed; only without a call, beside which text is decoration."""
    action = turn.expected_action
    if not is_prose(action) or not action.content:
        return
    for what, text in swaps(action.content):
        yield attack(f"swapped/{what}_in_message", Action(content=text))
    words = action.content.split()
    if len(words) > 12:
        yield attack("malformed/half_a_message", Action(content=" ".join(words[: len(words) // 2])), certain=False)
    yield attack("talk/refusal", Action(content="I'm sorry, but I can't help with that."), certain=False)
