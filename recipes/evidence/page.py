"""Tables and pictures of docs/results.md from the packed points; recipes/results_table.py writes them into the page."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import registered
from packed import unpack

from pivotrl.comparison.choosing import (
    Contest,
    adjusted,
    best_within,
    equal_score,
    harm_at,
    is_bounded,
    score_within,
)
from pivotrl.comparison.matching import paid, times
from pivotrl.comparison.page import LABELS, amount, told
from pivotrl.comparison.pictures import curves, frontier
from pivotrl.comparison.points import BASE
from pivotrl.comparison.predicting import predicts
from pivotrl.comparison.reaching import Ratio, fastest_rate, matched_level, ratio
from pivotrl.comparison.table import Table
from pivotrl.evaluation.differences import Difference, crossed_difference

COST_CELL = registered.COST_CELL
COST_PAIRS = (("pivots", "end_to_end"), ("imitation_then_pivots", "imitation_then_end_to_end"))
"""From the base, and from a light imitation."""
LIMITS = (0.01, 0.03, 0.1)
"""Nats of forgetting; chosen after the first results."""
SHOWN_ARMS = ("imitation", "weighted_imitation", "self_imitation", "pivots", "end_to_end", "own_states", "routing")
SHOWN_ARMS += tuple(registered.EXTRA)
ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
PICTURES = ROOT / "docs" / "pictures"


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
    return (
        f"Seeds: {', '.join(map(str, seeds))}. Intervals are for new seeds and new tasks (95 %). "
        f"Until {about['date'][:10]}, {about['machine']}, `{about['command']}`."
    )


# --- A: in domain, and forgetting -----------------------------------------------------------------------------------


def contests(cells: dict[str, Table], question: str) -> dict[str, Contest]:
    """The registered family of one question: PivotRL against imitation in every cell of part A."""
    found = {}
    for cell in registered.CELLS:
        if cell not in cells or not {"pivots", "imitation"} <= set(cells[cell].arms):
            continue
        table = cells[cell]
        if question == "score":
            made = score_within(table, "pivots", "imitation", registered.SCORE)
        else:
            level = equal_score(table, "pivots", "imitation", registered.SCORE)
            made = harm_at(table, "pivots", "imitation", registered.SCORE, registered.HARM, level)
        if made is not None:
            found[cell] = made
    return found


def map_of_cells(name: str) -> str:
    made = grid(name)
    if made is None:
        return "No committed result yet."
    cells, about = made
    scores, harms = contests(cells, "score"), contests(cells, "harm")
    p_values = adjusted({**{f"score {c}": x for c, x in scores.items()}, **{f"harm {c}": x for c, x in harms.items()}})
    rows = []
    for cell, one in scores.items():
        harm = harms.get(cell)
        rows.append(
            (
                f"`{cell}`",
                amount(registered.SCORE, _base(cells[cell], registered.SCORE)),
                told(registered.SCORE, one.second.score),
                told(registered.SCORE, one.first.score),
                told(registered.SCORE, one.difference),
                f"{p_values[f'score {cell}']:.3g}",
                _verdict(one.difference, 1),
                "-" if harm is None else told(registered.HARM, harm.difference),
                "-" if harm is None else f"{p_values[f'harm {cell}']:.3g}",
                "-" if harm is None else _verdict(harm.difference, -1),
            )
        )
    head = (
        *("cell", "before", "imitation gains", "PivotRL gains", "PivotRL - imitation, points", "p (Holm)", "in domain"),
        *("NLL change at equal score, PivotRL - imitation, nats", "p (Holm)", "less forgetting"),
    )
    seeds = sorted({seed for cell in scores for seed in cells[cell].seeds("pivots", "imitation")})
    return f"{table_of(rows, head)}\n\n{footer(about, seeds)}"


def at_equal_forgetting(name: str) -> str:
    """The score of each within a limit of forgetting; neither levels nor differences are part of the family."""
    made = grid(name)
    if made is None:
        return "No committed result yet."
    rows = []
    for cell, table in made[0].items():
        if {"pivots", "imitation"} <= set(table.arms):
            found = [
                score_within(table, "pivots", "imitation", registered.SCORE, registered.HARM, limit) for limit in LIMITS
            ]
            rows.append([f"`{cell}`", *(told(registered.SCORE, one.difference) if one else "-" for one in found)])
    return table_of(rows, ("cell", *(f"at most {limit:+g} nats" for limit in LIMITS)))


def summary_of_cells(name: str) -> str:
    """The map in four columns, for the README."""
    made = grid(name)
    if made is None:
        return "No committed result yet."
    rows = [
        (
            f"`{cell}`",
            told(registered.SCORE, one.second.score),
            told(registered.SCORE, one.first.score),
            told(registered.SCORE, one.difference),
        )
        for cell, one in contests(made[0], "score").items()
    ]
    return table_of(rows, ("demonstrator, reward, trajectories", "imitation", "PivotRL", "difference"))


def _base(table: Table, measure: str) -> float:
    return float(table.values(None, measure, table.base_seeds, "test").mean())


def _verdict(difference: Difference, direction: int) -> str:
    """Of a claim that the difference has the sign of ``direction``."""
    low, high = (difference.low, difference.high) if direction > 0 else (-difference.high, -difference.low)
    return "holds" if low > 0 else "does not hold" if high < 0 else "not decided"


def arms_table(name: str, cell: str, arms: Sequence[str]) -> str:
    """Each arm at the config that validation chose for its score, whatever it forgets."""
    made = grid(name)
    if made is None or cell not in made[0]:
        return "No committed result yet."
    table, about = made[0][cell], made[1]
    rows, used = [], set[int]()
    for arm in arms:
        if arm not in table.arms or not (seeds := table.seeds(arm)):
            continue
        config = best_within(table, arm, registered.SCORE, seeds=seeds)
        chosen = ("no training helps", "-") if config.arm == BASE else (f"{config.rate:g}", str(config.step))
        row = [registered.title(arm), *chosen, str(len(seeds))]
        used |= set(seeds)
        for measure in registered.SHOWN:
            if measure in table.measures():
                gain = crossed_difference(table.gain(config, measure, seeds, "test"), is_bounded(measure))
                row.append(told(measure, gain))
        rows.append(row)
    shown = [LABELS[m] for m in registered.SHOWN if m in table.measures()]
    before = ["before training, level", "", "", ""]
    before += [amount(m, _base(table, m)) for m in registered.SHOWN if m in table.measures()]
    text = table_of([before, *rows], ("method", "rate", "step", "seeds", *shown))
    return f"{text}\n\nChanges from before training. {footer(about, sorted(used))}"


def differences(name: str, asked: Iterable[tuple[str, str, str]]) -> str:
    """Gains in the score and their difference, each arm at its own best config on validation.

    Args:
        asked: (cell, first, second).
    """
    made = grid(name)
    if made is None:
        return "No committed result yet."
    cells, about = made
    rows, used = [], set[int]()
    for cell, first, second in asked:
        if cell not in cells or not {first, second} <= set(cells[cell].arms):
            continue
        one = score_within(cells[cell], first, second, registered.SCORE)
        if one is not None:
            seeds = cells[cell].seeds(first, second)
            used |= set(seeds)
            rows.append(
                (
                    f"`{cell}`",
                    registered.title(first),
                    registered.title(second),
                    *(told(registered.SCORE, made) for made in (one.first.score, one.second.score, one.difference)),
                    f"{one.difference.p_value:.3g}",
                    str(len(seeds)),
                )
            )
    if not rows:
        return "No committed result yet."
    head = ("cell", "first", "second", "first gains", "second gains", "first - second, points", "p", "seeds")
    return f"{table_of(rows, head)}\n\nIn whole episodes, greedy. {footer(about, sorted(used))}"


NEAR, DETOURS = registered.COST_CELL, "detours-several-32"
ABLATIONS = [(registered.ABLATION_CELL, "pivots", arm) for arm in registered.ABLATION]
EPISODES = [(NEAR, arm, other) for arm in registered.EPISODES for other in ("imitation", "pivots")]
AGAIN = [(NEAR, arm, "imitation") for arm in registered.AGAIN]
AGAIN += [(DETOURS, "own_states", other) for other in ("imitation", "pivots")]
BASELINES = [
    (cell, "pivots", arm) for cell in registered.CELLS[1:4] for arm in ("weighted_imitation", "self_imitation")
]
DATA = [(cell, "pivots", "imitation") for cell in registered.MORE_CELLS]


# --- B: cost --------------------------------------------------------------------------------------------------------


def cost_table(name: str, cell: str, pairs: Sequence[tuple[str, str]]) -> str:
    made = grid(name)
    if made is None or cell not in made[0]:
        return "No committed result yet."
    table, about = made[0][cell], made[1]
    rows = []
    for first, second in pairs:
        if not {first, second} <= set(table.arms) or not table.seeds(first, second):
            continue
        for measure in registered.MATCHED:
            level = matched_level(table, first, second, measure)
            for cost in registered.COSTS:
                made_ratio = ratio(table, first, second, measure, level, cost)
                if made_ratio is not None:
                    rows.append(_cost_row(first, second, measure, cost, made_ratio))
    head = ("methods", "score matched", "level, %", "cost", "first pays", "second pays", "ratio")
    seeds = sorted({seed for pair in pairs for seed in table.seeds(*pair)})
    return f"{table_of(rows, head)}\n\n{footer(about, seeds)}"


def _cost_row(first: str, second: str, measure: str, cost: str, made: Ratio) -> tuple[str, ...]:
    return (
        f"{registered.title(first)} / {registered.title(second)}",
        LABELS[measure],
        amount(measure, made.level),
        cost,
        paid(made.first.cost),
        paid(made.second.cost),
        times(made),
    )


# --- what predicts what, and false alarms ----------------------------------------------------------------------------


def predictions(name: str) -> str:
    """R2 over the checkpoints of all cells, and of those in which own-history progress was measured."""
    made = grid(name)
    if made is None:
        return "No committed result yet."
    everywhere = [one for one in registered.PREDICTIONS if not one[0].startswith("progress")]
    of_score = [one for one in registered.PREDICTIONS if one[1] == registered.SCORE]
    walked = {cell: table for cell, table in made[0].items() if "progress/greedy" in table.measures()}
    rows = []
    for where, cells, asked in (
        ("all cells", made[0], everywhere),
        (", ".join(f"`{cell}`" for cell in walked), walked, of_score),
    ):
        for first, second, change in asked:
            found = predicts(list(cells.values()), first, second, change)
            if found is not None:
                interval = f" [{found.low:.2f}, {found.high:.2f}]" if found.num_seeds > 1 else ""
                what = f"`{second}`" + (", change" if change else "")
                rows.append(
                    (
                        f"`{first}`",
                        what,
                        f"{found.r2:.2f}{interval}",
                        where,
                        str(found.num_configs),
                        str(found.num_seeds),
                    )
                )
    return table_of(rows, ("predicts", "what", "R2", "where", "checkpoints", "seeds"))


def false_alarms(name: str) -> str:
    """A/A: an arm at one config against itself, for every way to divide its seeds in halves; how often is p < 0.05?"""
    made = grid(name)
    if made is None:
        return "No committed result yet."
    alarms = total = configs = 0
    for table in made[0].values():
        for arm in table.arms:
            seeds = table.seeds(arm)
            seeds = seeds[: len(seeds) // 2 * 2]
            if len(seeds) < 4:
                continue
            for config in table.configs(arm):
                if config.step == 0:
                    continue
                configs += 1
                for others in itertools.combinations(seeds[1:], len(seeds) // 2 - 1):
                    half = [seeds[0], *others]
                    rest = [seed for seed in seeds if seed not in half]
                    gains = [table.gain(config, registered.SCORE, some, "test") for some in (half, rest)]
                    total += 1
                    alarms += crossed_difference(gains[0] - gains[1], is_bounded(registered.SCORE)).p_value < 0.05
    if not total:
        return "Needs four seeds."
    share = f"{alarms:,} of {total:,} comparisons of an arm with itself ({100 * alarms / total:.1f} %) have p < 0.05"
    return f"{share} ({configs} checkpoints, every division of the seeds in halves)."


# --- claims ----------------------------------------------------------------------------------------------------------


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
        judged = {cell: (_verdict(one.difference, direction), one.difference) for cell, one in found.items()}
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
                rows.append((claim, name, _verdict(one.difference, 1), where))
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


# --- pictures --------------------------------------------------------------------------------------------------------


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
