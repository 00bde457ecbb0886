"""The pictures of docs/results.md."""

from __future__ import annotations

from pathlib import Path

import registered
from committed import grid

from pivotrl.comparison.pictures import curves, frontier
from pivotrl.comparison.reaching import fastest_rate, matched_level

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"


def pictures() -> dict[Path, str]:
    """File -> SVG."""
    found: dict[Path, str] = {}
    for name in ("micro", "textworld"):
        made = grid(name)
        for cell, table in (made[0] if made else {}).items():
            shown = {
                arm: registered.title(arm) for arm in registered.FRONTIER if arm in table.arms and table.seeds(arm)
            }
            if len(shown) > 1:
                labels = ("NLL of answers outside the task, change in nats", "held-out episodes, share done")
                found[PICTURES / f"{name}-{cell}-frontier.svg"] = frontier(
                    table, shown, registered.SCORE, registered.HARM, labels
                )
            both = [arm for arm in ("pivots", "end_to_end") if arm in table.arms and table.seeds(arm)]
            if len(both) == 2:
                level = matched_level(table, both[0], both[1], registered.SCORE)
                seeds = table.seeds(*both)
                rates = {a: fastest_rate(table, a, registered.SCORE, level, "rollout turns", seeds) for a in both}
                known = {arm: rate for arm, rate in rates.items() if rate is not None}
                titles = {arm: registered.title(arm) for arm in known}
                if known:
                    found[PICTURES / f"{name}-{cell}-cost.svg"] = curves(
                        table, known, titles, registered.SCORE, "rollout turns", "held-out episodes, share done"
                    )
    return found
