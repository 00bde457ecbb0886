"""The README.md beside exported rows: what they are, where they come from, how to start a stack on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from pivotrl.records import SkippedTurn
from pivotrl.rows.rows import COLUMNS, Pivots, Row


def readme(
    stack: str, pivots: Pivots, rows: Mapping[str, Sequence[Row]], skipped: Sequence[SkippedTurn], start: str
) -> str:
    """Markdown.

    Args:
        rows: what was written, by split.
        start: how to start the stack.
    """
    lines = [f"# Pivots for {stack}", "", "Written by pivotrl.", "", pivots.about, "", "| split | rows | tasks |"]
    lines.append("| --- | --- | --- |")
    left_out = {skip.turn_id for skip in skipped}
    for split, turns in pivots.splits.items():
        written = [profiled.turn for profiled in turns if profiled.turn.id not in left_out]
        lines.append(f"| {split} | {len(written)} | {len({turn.trajectory.task_id for turn in written})} |")
    lines += ["", "No task is in both splits."]
    if skipped:
        counts = Counter(skip.reason for skip in skipped)
        told = ", ".join(f"{reason} {count}" for reason, count in counts.most_common())
        lines += ["", f"Left out, one by one in `skipped.jsonl`: {told}."]
    return "\n".join([*lines, "", "## Start", "", start.rstrip(), "", "## Columns", "", *_columns(rows)]) + "\n"


def _columns(rows: Mapping[str, Sequence[Row]]) -> list[str]:
    present: set[str] = set()
    for made in rows.values():
        for row in made:
            present |= row.keys() | {name for part in row.values() if isinstance(part, dict) for name in part}
    return [f"- `{name}`: {meaning}" for name, meaning in COLUMNS.items() if name in present]
