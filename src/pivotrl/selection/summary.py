"""A selection in numbers, for the manifest: counts, routes, evidence, cost of a visit, second draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from pivotrl.records import SampleGroup, Selection
from pivotrl.selection.limits import Facts
from pivotrl.selection.options import SelectionOptions
from pivotrl.selection.second_draw import second_draw

_MEANS = ("pass_rate", "chance_mixed", "deviation", "entropy")


def counts_of(
    rows: Sequence[Selection], groups: Sequence[SampleGroup], options: SelectionOptions, facts: Facts
) -> dict[str, Any]:
    """As JSON. Means are over the turns where the number is known, None without any.

    Args:
        rows: what :func:`pivotrl.selection.rules.select` made of the rest.
    """
    pivots = [row for row in rows if row.selected]
    routes = Counter(row.route for row in rows if row.pass_rate is not None)
    return {
        "pivots": len(pivots),
        "reasons": dict(Counter(row.reason for row in rows)),
        "routes": {
            **{route: routes[route] for route in ("imitate", "practise", "leave")},
            "no_verdict": sum(row.pass_rate is None for row in rows),
        },
        "evidence": {"all_turns": _means(rows), "pivots": _means(pivots)},
        "one_visit": _one_visit(pivots, options, facts),
        "second_draw": second_draw(groups, options, facts).as_json(),
    }


def _means(rows: Sequence[Selection]) -> dict[str, float | None]:
    found = {}
    for name in _MEANS:
        values = [value for row in rows if (value := getattr(row, name)) is not None]
        found[name] = round(fmean(values), 6) if values else None
    return found


def _one_visit(pivots: Sequence[Selection], options: SelectionOptions, facts: Facts) -> dict[str, float | None]:
    """What it costs to sample one group at every pivot."""
    sizes = [row.group_tokens for row in pivots]
    tokens = None if None in sizes else round(sum(size or 0.0 for size in sizes))
    seconds = None if tokens is None or facts.seconds_per_token is None else round(tokens * facts.seconds_per_token, 3)
    return {
        "rollout_turns": len(pivots) * options.selection_group_size,
        "sampled_tokens": tokens,
        "seconds": seconds,
    }
