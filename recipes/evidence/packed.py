"""Points as a small file to commit: the names of clusters once, then a row of numbers for each point and measure."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pivotrl.comparison.points import Costs, Point

DIGITS = 5
"""Significant digits of a value."""


def pack(points: Iterable[Point], about: dict[str, Any]) -> bytes:
    """The same points give the same bytes.

    Args:
        about: command, date, machine, versions.
    """
    clusters: dict[str, list[str]] = {}
    rows = []
    for point in points:
        values: dict[str, list[Any]] = {}
        for measure, found in point.values.items():
            kind = f"{point.cell}:{measure}"
            names = clusters.setdefault(kind, sorted(found))
            if missing := set(found) - set(names):
                raise ValueError(
                    f"{point.key} has clusters that the first point of its cell lacks: {sorted(missing)[:3]}"
                )
            values[measure] = [shortened(found[name]) if name in found else None for name in names]
        costs = point.costs.model_dump()
        costs["seconds"] = round(costs["seconds"], 2)
        rows.append([point.cell, point.arm, point.rate, point.seed, point.step, costs, values])
    body = "\n".join(
        json.dumps(part, separators=(",", ":")) for part in ({"about": about, "clusters": clusters}, *rows)
    )
    return gzip.compress(body.encode(), compresslevel=9, mtime=0)


def shortened(value: float) -> float:
    """As it is committed."""
    return float(f"{value:.{DIGITS}g}")


def unpack(path: Path) -> tuple[list[Point], dict[str, Any]]:
    """The points, and what was said about them."""
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    head = json.loads(lines[0])
    points = []
    for line in lines[1:]:
        cell, arm, rate, seed, step, costs, values = json.loads(line)
        named = {measure: _named(head["clusters"][f"{cell}:{measure}"], numbers) for measure, numbers in values.items()}
        points.append(Point(cell=cell, arm=arm, rate=rate, seed=seed, step=step, costs=Costs(**costs), values=named))
    return points, head["about"]


def _named(clusters: Sequence[str], numbers: Sequence[float | None]) -> dict[str, float]:
    return {cluster: number for cluster, number in zip(clusters, numbers, strict=True) if number is not None}
