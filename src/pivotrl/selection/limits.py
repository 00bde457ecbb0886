"""How many of the turns that a rule accepts become pivots, and which: order, caps, and what a budget buys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pivotrl.options import InputError, flag, refuse
from pivotrl.records import SampleGroup
from pivotrl.seeding import derive_seed
from pivotrl.selection.actions import MESSAGE
from pivotrl.selection.evidence import TurnEvidence, group_tokens, visit_tokens
from pivotrl.selection.options import SelectionOptions


@dataclass(frozen=True)
class Facts:
    """What is known of a profile besides its samples."""

    tools: Mapping[str, str] | None = None
    """Turn id -> what the demonstrated action calls (:func:`pivotrl.selection.actions.tools_called`)."""
    tasks: Mapping[str, str] | None = None
    """Turn id -> task, for intervals; None: each trajectory is a task of its own."""
    seconds_per_token: float | None = None
    """Seconds of the profile for each token that it sampled."""
    why_no_seconds: str = "the profile does not tell"
    dropped: Collection[str] = ()
    """Ids of turns that labels drop."""

    def task_of(self, turn_id: str) -> str:
        return trajectory_of(turn_id) if self.tasks is None else self.tasks[turn_id]


def trajectory_of(turn_id: str) -> str:
    return turn_id.rpartition("#")[0]


@dataclass(frozen=True)
class Budget:
    """How much one visit to every pivot may cost."""

    limit: float
    per_token: float
    """What a sampled token costs; 0 if actions are counted, each at 1."""

    def cost(self, group: SampleGroup, group_size: int) -> float:
        if self.per_token == 0:
            return float(group_size)
        tokens = group_tokens(group, group_size)
        assert tokens is not None
        return self.per_token * tokens


def within_limits(
    groups: Sequence[SampleGroup],
    evidence: Mapping[str, TurnEvidence],
    options: SelectionOptions,
    facts: Facts,
    limit: int | None,
) -> dict[str, str]:
    """Turn id -> ``pivot``, or why it is none: ``not_drawn`` (beyond the limit), ``over_cap``, ``over_budget``.

    The turns are taken in the order of choice. One that no longer fits is passed over, and the next ones are tried.

    Args:
        groups: of the turns that the rule accepts.
        evidence: by turn id; needed for an order by signal.
        limit: of the number of pivots; None: no limit.

    Raises:
        InputError: a limit or an order needs something that is not known.
    """
    if not groups:
        return {}
    budgets = _budgets(groups, options, facts)
    tools = _tools(options, facts)
    spent, kept = [0.0] * len(budgets), 0
    per_trajectory, per_tool = Counter[str](), Counter[str]()
    found: dict[str, str] = {}
    for group in _in_order(groups, evidence, options):
        trajectory, tool = trajectory_of(group.turn_id), tools.get(group.turn_id, "")
        cap = options.max_messages if tool == MESSAGE else options.max_per_tool
        costs = [budget.cost(group, options.selection_group_size) for budget in budgets]
        if limit is not None and kept >= limit:
            reason = "not_drawn"
        elif _is_full(options.max_per_trajectory, per_trajectory[trajectory]) or _is_full(cap, per_tool[tool]):
            reason = "over_cap"
        elif any(before + cost > budget.limit for before, cost, budget in zip(spent, costs, budgets, strict=True)):
            reason = "over_budget"
        else:
            reason = "pivot"
            kept += 1
            per_trajectory[trajectory] += 1
            per_tool[tool] += 1
            spent = [before + cost for before, cost in zip(spent, costs, strict=True)]
        found[group.turn_id] = reason
    return found


def _is_full(cap: int | None, number: int) -> bool:
    return cap is not None and number >= cap


def _in_order(
    groups: Sequence[SampleGroup], evidence: Mapping[str, TurnEvidence], options: SelectionOptions
) -> list[SampleGroup]:
    """Equal turns, and all turns of a random order, are drawn by a hash: the same ones stay chosen when others are
    added or removed."""
    draw = {group.turn_id: derive_seed(options.selection_seed, "select", group.turn_id) for group in groups}
    if options.order == "random":
        return sorted(groups, key=lambda group: draw[group.turn_id])
    if options.order == "signal":
        return sorted(groups, key=lambda group: (-evidence[group.turn_id].deviation, draw[group.turn_id]))
    costs = {group.turn_id: visit_tokens(group, options.selection_group_size) for group in groups}
    if unknown := sum(cost is None for cost in costs.values()):
        refuse("order", options.order, f"needs token counts, but the samples of {unknown:,} turns came as text")
    gain = {name: evidence[name].deviation / max(cost or 0.0, 1.0) for name, cost in costs.items()}
    return sorted(groups, key=lambda group: (-gain[group.turn_id], draw[group.turn_id]))


def _tools(options: SelectionOptions, facts: Facts) -> Mapping[str, str]:
    if not options.needs_tools:
        return {}
    if facts.tools is None:
        name = "max_per_tool" if options.max_per_tool is not None else "max_messages"
        raise InputError(f"{flag(name)} needs the tool of each turn (Facts.tools)")
    return facts.tools


def _budgets(groups: Sequence[SampleGroup], options: SelectionOptions, facts: Facts) -> list[Budget]:
    found = []
    if options.budget_rollout_turns is not None:
        found.append(Budget(options.budget_rollout_turns, 0.0))
    if options.budget_tokens is not None:
        found.append(Budget(options.budget_tokens, 1.0))
    if options.budget_seconds is not None:
        if facts.seconds_per_token is None:
            refuse(
                "budget_seconds",
                f"{options.budget_seconds:g}",
                f"needs the seconds that the profile took for each token, but {facts.why_no_seconds}. "
                "Give --budget-tokens or --budget-rollout-turns",
            )
        found.append(Budget(options.budget_seconds, facts.seconds_per_token))
    for name, value in (("budget_tokens", options.budget_tokens), ("budget_seconds", options.budget_seconds)):
        if value is not None:
            unknown = sum(group_tokens(group, 1) is None for group in groups)
            if unknown:
                refuse(
                    name,
                    f"{value:g}",
                    f"needs token counts, but the samples of {unknown:,} turns came as text. "
                    "Give --budget-rollout-turns",
                )
    return found
