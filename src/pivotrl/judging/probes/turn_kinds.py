"""The kind of a turn: calls, commands, edits, messages, answers; and the language of a message."""

from __future__ import annotations

import re

from pivotrl.judging.messages.languages import language_of, script_of
from pivotrl.judging.probes.commands import is_prose, shells
from pivotrl.judging.probes.edits import edits
from pivotrl.protocols import Turn

_ANSWER = re.compile(r"\\boxed\s*\{|^\W*(?:final |the )?answer(?: is)?\s*[:=]|^####", re.IGNORECASE | re.MULTILINE)


def kind_of_turn(turn: Turn) -> str:
    """``edits``, ``commands``, ``calls``, ``answers``, ``messages``, or ``other text``: a move, JSON, code."""
    action = turn.expected_action
    if any(edits(action)):
        return "edits"
    if any(shells(action)):
        return "commands"
    if action.tool_calls:
        return "calls"
    if _ANSWER.search(action.content or ""):
        return "answers"
    return "messages" if is_prose(action) else "other text"


def language_of_turn(turn: Turn) -> str | None:
    """The language of a demonstrated message, or its script where that says more; None where the turn is none, or
    where it is too short to tell."""
    if kind_of_turn(turn) != "messages":
        return None
    text = turn.expected_action.content or ""
    script = script_of(text)
    return language_of(text) if script == "LATIN" else f"{language_of(text) or 'unknown'}, {script.title()}"
