"""Functional equivalence in Errands: an action passes when it is a best move for what the agent can know.

The verdict depends on the command alone, in any wording, with or without a thought before it, as a sentence or as JSON
(:func:`pivotrl.environments.errands.words.read_command`). A best move begins a plan with the fewest moves expected by
an agent that knows what the observation says. So asking passes where a place is unknown, and walking off on a guess
passes only if it is as good on average.
"""

from __future__ import annotations

from typing import Literal

from pivotrl.environments.errands.planner import prices
from pivotrl.environments.errands.words import NoCommand, read_command
from pivotrl.environments.errands.world import parse_view
from pivotrl.protocols import Turn
from pivotrl.records import Action, Verdict

_EQUAL = 1e-9


def verify(turn: Turn, action: Action, *, accepted: Literal["several", "one"] = "several") -> Verdict:
    """Pass the best moves, or only the demonstrated one.

    Args:
        accepted: ``several``: every best move, in every wording. ``one``: the demonstrated move alone, in its canonical
            wording or in that of the demonstration; a thought before it does not count. This is the strict reward.

    Reasons: best_move, demonstrated; not_best, no_effect, other_move, other_wording, no_command, two_commands,
    too_long; and without a verdict not_an_errands_turn, no_plan, nothing_left, no_demonstration.
    """
    try:
        command = read_command(action.content or "") if not action.tool_calls else None
        fault = "no_command"
    except NoCommand as error:
        command, fault = None, str(error)
    if accepted == "one":
        return _as_demonstrated(turn, action, fault)
    text = next((m.content for m in reversed(turn.context) if m.role == "user"), None) or ""
    try:
        view = parse_view(text)
    except ValueError as error:
        return Verdict.unknown("not_an_errands_turn", error=str(error)[:200])
    if not view.goals:
        return Verdict.unknown("nothing_left")
    try:
        found = prices(view)
    except ValueError as error:
        return Verdict.unknown("no_plan", error=str(error))
    if command is None:
        return Verdict.failed(fault)
    best, price = min(found.values()), found.get(command.move)
    if price is None:
        return Verdict.failed("no_effect")
    if price <= best + _EQUAL:
        return Verdict.passed("best_move")
    return Verdict.failed("not_best", moves_lost=round(price - best, 6))


def _as_demonstrated(turn: Turn, action: Action, fault: str) -> Verdict:
    if turn.index >= len(turn.trajectory.messages):
        return Verdict.unknown("no_demonstration")
    try:
        expected = read_command(turn.expected_action.content or "")
    except NoCommand:
        return Verdict.unknown("no_demonstration")
    try:
        command = read_command(action.content or "") if not action.tool_calls else None
    except NoCommand:
        command = None
    if command is None:
        return Verdict.failed(fault)
    if command.move != expected.move:
        return Verdict.failed("other_move")
    if command.wording not in (expected.move.text, expected.wording):
        return Verdict.failed("other_wording")
    return Verdict.passed("demonstrated")
