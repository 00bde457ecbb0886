"""What holds of the paper's claims, as a table."""

from __future__ import annotations

import registered
from committed import grid, table_of, verdict
from page import COST_PAIRS, contests

from pivotrl.comparison.choosing import score_within
from pivotrl.comparison.matching import times
from pivotrl.comparison.page import amount, told
from pivotrl.comparison.reaching import matched_level, ratio
from pivotrl.comparison.table import Table


def claims() -> str:
    """A row for each claim of the paper and each grid."""
    rows: list[tuple[str, ...]] = []
    for name in ("micro", "textworld"):
        made = grid(name)
        if made is not None:
            rows += _claims(name, made[0])
    return table_of(rows, ("claim of the paper", "grid", "verdict", "where, by how much"))


def _claims(name: str, cells: dict[str, Table]) -> list[tuple[str, ...]]:
    rows = []
    for claim, question, measure, direction in (
        ("In domain better than imitation of the same data (+4.17 points)", "score", registered.SCORE, 1),
        ("Forgets less than imitation (+0.21 against -9.83 points)", "harm", registered.HARM, -1),
    ):
        found = contests(cells, question)
        judged = {cell: (verdict(one.difference, direction), one.difference) for cell, one in found.items()}
        verdicts = sorted({verdict for verdict, _ in judged.values()})
        if judged:
            where = "; ".join(f"`{cell}` {verdict}: {told(measure, one)}" for cell, (verdict, one) in judged.items())
            overall = verdicts[0] if len(verdicts) == 1 else "depends on the cell"
            rows.append((claim, name, overall, where))
    for claim, cost in (
        ("4 times fewer rollout turns than end-to-end RL at its score", "rollout turns"),
        ("5.5 times less wall-clock than end-to-end RL at its score", "seconds"),
    ):
        rows += _cost_claim(name, cells, claim, cost, 4.0 if cost == "rollout turns" else 5.5)
    for claim, arm in (
        ("The filter helps (+4.13 points over random turns)", "random"),
        ("The functional reward helps (the paper removes it together with the filter: +6.47)", "all_exact"),
        ("The functional reward helps, filter kept (the paper's missing cell)", "pivots_exact"),
    ):
        table = cells.get(registered.ABLATION_CELL)
        if table is not None and {"pivots", arm} <= set(table.arms):
            one = score_within(table, "pivots", arm, registered.SCORE)
            if one is not None:
                where = f"`{registered.ABLATION_CELL}`: {told(registered.SCORE, one.difference)}"
                rows.append((claim, name, verdict(one.difference, 1), where))
    return rows


def _cost_claim(name: str, cells: dict[str, Table], claim: str, cost: str, factor: float) -> list[tuple[str, ...]]:
    rows = []
    for cell, table in cells.items():
        for start, (first, second) in zip(("from the base", "after a little imitation"), COST_PAIRS, strict=True):
            if not {first, second} <= set(table.arms) or not table.seeds(first, second):
                continue
            level = matched_level(table, first, second, registered.SCORE)
            made = ratio(table, first, second, registered.SCORE, level, cost)
            if made is not None:
                verdict = "holds" if made.low >= factor else "does not hold" if made.high < factor else "not decided"
                where = f"`{cell}`, episodes at {amount(registered.SCORE, level)} %: {times(made)} times"
                rows.append((f"{claim}, {start}", name, verdict, where))
    return rows
