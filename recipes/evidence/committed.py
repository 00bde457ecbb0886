"""The committed points of a grid, and how the pages write tables."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from packed import unpack

from pivotrl.comparison.points import BASE
from pivotrl.comparison.table import Table
from pivotrl.evaluation.differences import Difference

RESULTS = Path(__file__).parent / "results"


@functools.cache
def grid(name: str) -> tuple[dict[str, Table], dict[str, Any]] | None:
    """cell -> table, and what was said about the points; None if there are none yet."""
    path = RESULTS / f"{name}.json.gz"
    if not path.is_file():
        return None
    points, about = unpack(path)
    cells: dict[str, list[Any]] = {}
    for point in points:
        cells.setdefault(point.cell, []).append(point)
    return {cell: Table(found) for cell, found in cells.items() if any(p.arm == BASE for p in found)}, about


def table_of(rows: Iterable[Sequence[str]], head: Sequence[str]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def footer(about: dict[str, Any], seeds: Iterable[int]) -> str:
    return f"Seeds: {', '.join(map(str, seeds))}. Intervals are for new seeds and new tasks (95 %). {source(about)}"


def source(about: dict[str, Any]) -> str:
    return f"Until {about['date'][:10]}, {about['machine']}, `{about['command']}`."


def base_level(table: Table, measure: str) -> float:
    return float(table.values(None, measure, table.base_seeds, "test").mean())


def verdict(difference: Difference, direction: int) -> str:
    """Of a claim that the difference has the sign of ``direction``."""
    low, high = (difference.low, difference.high) if direction > 0 else (-difference.high, -difference.low)
    return "holds" if low > 0 else "does not hold" if high < 0 else "not decided"
