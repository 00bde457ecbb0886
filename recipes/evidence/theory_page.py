"""The table of docs/results.md on Theorems 3.2 and 3.3, from results/theory.json. Its limits predate the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "theory.json"
PROPORTIONAL = (0.8, 1.25)
"""A slope within these is that of proportional quantities."""
MOST = 0.9
"""Share of the KL that moves mass between accepted and rejected actions; 1 at the optimum of Theorem 3.3."""
NORMS = {
    "plain": "gradient of the pass rate",
    "diagonal": "the same, scaled by the diagonal Fisher matrix of all turns",
    "equation_7": "expected gradient of equation 7 (advantages divided by their deviation)",
}

Row = tuple[str, str, str, str]


def theory(path: Path = RESULT) -> str:
    """A row and a verdict for each claim."""
    if not path.is_file():
        return "No committed result yet."
    found = json.loads(path.read_text())
    rows = [row for policy, one in found["signal"].items() for row in _signal_rows(policy, one)]
    for rate, arms in found["shape"].items():
        for arm, one in arms.items():
            rows += _shape_rows(f"{arm}, rate {rate}", one)
    head = ("claim", "where", "measured", "verdict")
    lines = ["| " + " | ".join(row) + " |" for row in (head, ("---",) * 4, *rows)]
    return "\n".join([*lines, "", _footer(found)])


def decided(interval: Sequence[float], low: float, high: float) -> str:
    """Whether an estimate lies between the limits: its whole interval does, none of it does, or neither."""
    _, least, most = interval
    if low <= least and most <= high:
        return "holds"
    return "does not hold" if most < low or least > high else "not decided"


def _signal_rows(policy: str, one: dict[str, Any]) -> list[Row]:
    natural = one["natural_over_deviation"]
    ratio = (natural["lowest"], natural["lowest"], natural["highest"])
    told = f"ratio {ratio[1]:.4f} to {ratio[2]:.4f} at {natural['turns']} turns"
    name = "3.2: the natural gradient is the reward deviation (the turn's own Fisher matrix)"
    rows = [(name, policy, told, decided(ratio, 0.99, 1.01))]
    for kind, name in NORMS.items():
        found = one[kind]
        told = f"log-log slope {shown(found['slope'])}; rank correlation {shown(found['spearman'])}"
        if found["edge"] is not None:
            told += f"; at {found['edge_turns']} one-sided turns {shown(found['edge'])} of that at mixed ones"
            told += f" (the deviation: {found['edge_predicted'][0]:.2f})"
        verdict = f"{decided(found['slope'], *PROPORTIONAL)}; that it rises {_sign(found['spearman'])}"
        rows.append((f"3.2: {name} is proportional to it", policy, told, verdict))
    return rows


def _shape_rows(where: str, one: dict[str, Any]) -> list[Row]:
    last = one["last"]
    told = f"pass rate {last['pass'][0]:.2f}, logit {shown(last['logit'])}"
    rows = [("3.3 (i): accepted actions gain mass", where, told, _sign(last["logit"]))]
    told = f"{shown(last['share'])} of {last['kl'][0]:.2f} nats; pairs drift by {last['accepted_pairs'][0]:.2f} "
    told += f"(accepted), {last['rejected_pairs'][0]:.2f} (rejected)"
    verdict = decided(last["share"], MOST, 1.0 + 1e-9)
    rows.append(("3.3 (ii): ratios stay, so the KL moves mass only", where, told, verdict))
    if one["against"] is not None:
        gaps = [one["against"][f"{kind}_pairs"] for kind in ("accepted", "rejected")]
        levels = [one["level"][f"{kind}_pairs"][0] for kind in ("accepted", "rejected")]
        told = "; ".join(
            f"{kind} {level:.2f}, imitation {level - gap[0]:.2f}, difference {shown(gap)}"
            for kind, level, gap in zip(("accepted", "rejected"), levels, gaps, strict=True)
        )
        less = [_sign([-gap[0], -gap[2], -gap[1]]) for gap in gaps]
        rows.append(("Pairs drift less than with imitation, same pass rate", where, told, f"{less[0]}; {less[1]}"))
    return rows


def _sign(interval: Sequence[float]) -> str:
    """Whether an estimate is above 0."""
    return "holds" if interval[1] > 0 else "does not hold" if interval[2] < 0 else "not decided"


def shown(interval: Sequence[float]) -> str:
    return f"{interval[0]:.2f} [{interval[1]:.2f}, {interval[2]:.2f}]"


def _footer(found: dict[str, Any]) -> str:
    about, rate = found["about"], found["pass_rate"]
    new = "new seeds and turns" if len(about["seeds"]) > 1 else "new turns alone"
    return (
        f"Pass rates and gradients are exact sums over the accepted actions in 11 wordings: "
        f"{rate['enumerated']:.3f} of all mass; "
        f"samples pass at {rate['sampled']:.3f}, {rate['passed_but_not_enumerated']:.3f} in other words. "
        f"Drifts are of "
        f"{about['held_out_turns']} held-out turns after {about['steps'][-1]} steps, in nats; the same pass rate is "
        f"{about['level']:g}. Seeds: {', '.join(map(str, about['seeds']))}. Intervals: 95 %, for new tasks (3.2), for "
        f"{new} (3.3). {about['date'][:10]}, {about['machine']}, `{about['command']}`."
    )
