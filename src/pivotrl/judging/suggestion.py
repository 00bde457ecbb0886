"""The built-in verifier that fits each kind of turn, and the one verifier for a log that holds several kinds."""

from __future__ import annotations

from collections.abc import Iterable

from pivotrl import plugins
from pivotrl.judging.probes.turn_kinds import kind_of_turn
from pivotrl.protocols import Turn

_FITTING = {"commands": "command", "edits": "edit", "answers": "answer", "calls": "tool_call", "messages": "tool_call"}
_BESIDE_OTHERS = {"answer": "answer(extraction=('boxed', 'answer_line'))"}
"""A whole message that marks no answer is left to the verifiers behind."""
_ORDER = tuple(dict.fromkeys(_FITTING.values()))


def fitting_verifier(turn: Turn, kind: str | None = None) -> str:
    """The verifier made for this turn: its domain's own if there is one, such as ``plancraft``, else that of its kind.

    Args:
        kind: of the turn, if it is known already.

    Returns:
        a plugin's name; empty if nothing built in fits.
    """
    domain = turn.trajectory.metadata.get("domain")
    if isinstance(domain, str) and domain in plugins.names("verifiers"):
        return domain
    return _FITTING.get(kind or kind_of_turn(turn), "")


def combined(verifiers: Iterable[str]) -> str:
    """The text for ``--verifier`` that covers all of these; empty if there is none."""
    names = set(filter(None, verifiers))
    if "edit" in names:  # who edits files also runs commands, and talks
        names |= {"command", "tool_call"}
    parts = [*sorted(names.difference(_ORDER)), *(name for name in _ORDER if name in names)]
    if len(parts) < 2:
        return "".join(parts)
    return f"first_decisive(verifiers=({', '.join(repr(_BESIDE_OTHERS.get(name, name)) for name in parts)}))"


def quoted(text: str) -> str:
    """The text in double quotes, for a shell; it holds no sign that means something inside of them except quotes."""
    return '"' + text.replace('"', '\\"') + '"'
