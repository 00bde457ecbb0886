"""Writes the tables of docs/questions.md from the committed results.

python recipes/questions/page.py           # rewrites the file
python recipes/questions/page.py --check   # exit 1 when it is not up to date
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "questions.md"
_MARKS = re.compile(r"(<!-- (\w+): recipes/questions/page.py -->\n).*?(<!-- /\2 -->)", re.DOTALL)


def chosen() -> str:
    """Kinds that were kept, with what the other half of their questions says."""
    kinds = json.loads((HERE / "chosen.json").read_text())["kinds"]
    kept = {name: kind for name, kind in kinds.items() if kind["kept"]}
    rows = [
        f"| {name} | {_percent(kind['first']['right'])} | {_percent(kind['second']['right'])} "
        f"[{_percent(kind['second']['interval'][0])}, {_percent(kind['second']['interval'][1])}] | "
        f"{_percent(kind['second']['chance'])} | {kind['second']['questions']} |"
        for name, kind in sorted(kept.items())
    ]
    head = ["| kind | right in the half that chose, % | right in the other half, % | chance there, % | questions |"]
    again = sum(kind["second"]["above_chance"][0] > 0 for kind in kept.values())
    told = f"{len(kept)} of {len(kinds)} kinds were kept; {again} of them are clearly above chance in the other half."
    return "\n".join([*head, "| --- | --- | --- | --- | --- |", *rows, "", told]) + "\n"


def measured() -> str:
    """What each policy scores, and the change from the untouched model."""
    data = json.loads((HERE / "measured.json").read_text())
    kinds = [row["kind"] for row in data["policies"]["the untouched model"] if row["kind"].count("/") == 0]
    names = list(data["policies"])
    lines = [f"| measurement | {' | '.join(names)} |", f"| --- |{' --- |' * len(names)}"]
    for kind in kinds:
        cells = []
        for name in names:
            row = next(row for row in data["policies"][name] if row["kind"] == kind)
            cells.append(_cell(row))
        lines.append(f"| {kind.removeprefix('answers, ')} | {' | '.join(cells)} |")
    return (
        "\n".join(lines)
        + f"\n\n`{data['command']}`, {data['questions']} questions, {data['machine']}, {data['date'][:10]}.\n"
    )


def _cell(row: dict[str, Any]) -> str:
    is_share, change = row["unit"].startswith("share"), row["change"]
    if change is None:
        low, mean, high = (row["score"][name] for name in ("low", "mean", "high"))
        return f"{_amount(mean, is_share)} [{_amount(low, is_share)}, {_amount(high, is_share)}]"
    difference, low, high = (change[name] for name in ("difference", "low", "high"))
    return f"{_signed(difference, is_share)} [{_signed(low, is_share)}, {_signed(high, is_share)}]"


def _percent(value: float) -> str:
    return f"{100 * value:.0f}"


def _amount(value: float, is_share: bool) -> str:
    return f"{100 * value:.1f} %" if is_share else f"{value:.2f}"


def _signed(value: float, is_share: bool) -> str:
    return f"{100 * value:+.1f}" if is_share else f"{value:+.2f}"


def written(page: str) -> str:
    tables = {"chosen": chosen, "measured": measured}
    return _MARKS.sub(lambda found: f"{found[1]}{tables[found[2]]()}{found[3]}", page)


if __name__ == "__main__":
    before = PAGE.read_text()
    if "--check" in sys.argv:
        sys.exit(int(written(before) != before))
    PAGE.write_text(written(before))
