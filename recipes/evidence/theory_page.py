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
    rows = [("3.2: natural gradient = deviation of the reward (the turn's own Fisher matrix)", policy, told)]
    verdicts = [decided(ratio, 0.99, 1.01)]
    for kind, name in NORMS.items():
        found = one[kind]
        if found["slope"] is None:
            continue
        rows.append((f"3.2: {name} is proportional to it", policy, f"log-log slope {shown(found['slope'])}"))
        verdicts.append(decided(found["slope"], *PROPORTIONAL))
        rows.append((f"3.2: {name} rises with it", policy, f"rank correlation {shown(found['spearman'])}"))
        verdicts.append(_sign(found["spearman"]))
        if found["edge"] is not None:
            told = f"{shown(found['edge'])} of mixed turns, {found['edge_predicted'][0]:.2f} predicted"
            rows.append((f"3.2: {name} nearly vanishes at {found['edge_turns']} one-sided turns", policy, told))
            verdicts.append(decided(found["edge"], 0.0, 0.5))
    return [(*row, verdict) for row, verdict in zip(rows, verdicts, strict=True)]


def _shape_rows(where: str, one: dict[str, Any]) -> list[Row]:
    last = one["last"]
    pairs = f"pairs drift by {last['accepted_pairs'][0]:.2f} (accepted) and {last['rejected_pairs'][0]:.2f} (rejected)"
    told = f"pass rate {last['pass'][0]:.2f}, logit {shown(last['logit'])}"
    rows = [
        ("3.3 (i): accepted actions gain mass", where, told, _sign(last["logit"])),
        (
            "3.3 (ii): ratios stay; the KL moves mass only",
            where,
            f"{shown(last['share'])} of {last['kl'][0]:.2f} nats; {pairs}",
            decided(last["share"], MOST, 1.0 + 1e-9),
        ),
    ]
    for kind in ("accepted", "rejected"):
        if one["against"] is not None:
            gap, level = one["against"][f"{kind}_pairs"], one["level"][f"{kind}_pairs"][0]
            told = f"{level:.2f} nats, {shown(gap)} more than imitation"
            less = _sign([-gap[0], -gap[2], -gap[1]])
            rows.append(
                (f"{kind.capitalize()} pairs drift less than with imitation, same pass rate", where, told, less)
            )
    return rows


def _sign(interval: Sequence[float]) -> str:
    """Whether an estimate is above 0."""
    return "holds" if interval[1] > 0 else "does not hold" if interval[2] < 0 else "not decided"


def shown(interval: Sequence[float]) -> str:
    return f"{interval[0]:.2f} [{interval[1]:.2f}, {interval[2]:.2f}]"


def _footer(found: dict[str, Any]) -> str:
    about, rate = found["about"], found["pass_rate"]
    return (
        f"Pass rates and gradients are exact sums over the {rate['enumerated']:.3f} of all mass that passes in an "
        f"enumerated wording ({rate['passed_but_not_enumerated']:.3f} passes in others). Drifts are of "
        f"{about['held_out_turns']} held-out turns after {about['steps'][-1]} steps, in nats; the same pass rate is "
        f"{about['level']:g}. Seeds: {', '.join(map(str, about['seeds']))}. Intervals: 95 %, for new tasks (3.2), for "
        f"new seeds and turns (3.3). {about['date'][:10]}, {about['machine']}, `{about['command']}`."
    )
