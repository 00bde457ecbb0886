"""Tables of docs/results.md from the committed points; recipes/results_table.py writes them into the page."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import registered
from committed import base_level, footer, grid, source, table_of, verdict

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
from pivotrl.comparison.points import BASE
from pivotrl.comparison.predicting import predicts
from pivotrl.comparison.reaching import Ratio, matched_level, ratio
from pivotrl.comparison.table import Table
from pivotrl.evaluation.differences import crossed_difference

COST_CELL = registered.COST_CELL
COST_PAIRS = (("pivots", "end_to_end"), ("imitation_then_pivots", "imitation_then_end_to_end"))
"""From the base, and from a light imitation."""
LIMITS = (0.01, 0.03, 0.1)
"""Nats of forgetting; chosen after the first results."""
SHOWN_ARMS = ("imitation", "weighted_imitation", "self_imitation", "pivots", "end_to_end", "own_states", "routing")
SHOWN_ARMS += tuple(registered.EXTRA)


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
                amount(registered.SCORE, base_level(cells[cell], registered.SCORE)),
                told(registered.SCORE, one.second.score),
                told(registered.SCORE, one.first.score),
                told(registered.SCORE, one.difference),
                f"{p_values[f'score {cell}']:.3g}",
                verdict(one.difference, 1),
                "-" if harm is None else told(registered.HARM, harm.difference),
                "-" if harm is None else f"{p_values[f'harm {cell}']:.3g}",
                "-" if harm is None else verdict(harm.difference, -1),
            )
        )
    head = (
        *("cell", "before", "imitation gains", "PivotRL gains", "PivotRL - imitation, points", "p (Holm)", "in domain"),
        *("NLL change at equal score, PivotRL - imitation, nats", "p (Holm)", "less forgetting"),
    )
    if not rows:
        return "No committed result yet."
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
    before += [amount(m, base_level(table, m)) for m in registered.SHOWN if m in table.measures()]
    text = table_of([before, *rows], ("method", "rate", "step", "seeds", *shown))
    return f"{text}\n\nChanges from before training. {footer(about, sorted(used))}"


def checkpoints(name: str, cell: str) -> str:
    """Every checkpoint of a cell, chosen or not: levels on the test half."""
    made = grid(name)
    if made is None or cell not in made[0]:
        return "No committed result yet."
    table, about = made[0][cell], made[1]
    measures = [measure for measure in registered.SHOWN if measure in table.measures()]
    rows = [("before training", "", "", "", *(amount(m, base_level(table, m)) for m in measures))]
    for config in (config for arm in table.arms for config in table.configs(arm) if config.step):
        if seeds := table.seeds(config.arm):
            levels = [amount(m, float(table.values(config, m, seeds, "test").mean())) for m in measures]
            rows.append((registered.title(config.arm), f"{config.rate:g}", str(config.step), str(len(seeds)), *levels))
    head = ("method", "rate", "step", "seeds", *(LABELS[measure] for measure in measures))
    return f"{table_of(rows, head)}\n\nLevels on the test half. {source(about)}"


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
TASKS = [(registered.TASKS_CELL, arm, "imitation") for arm in ("own_states", "best_then_own_states")]
BASELINES = [
    (cell, "pivots", arm) for cell in registered.CELLS[1:4] for arm in ("weighted_imitation", "self_imitation")
]
PROFILE_PAIRS = [("lazy", "pivots"), ("lazy", "pivots_16"), ("pivots_adaptive", "pivots_16")]
PROFILES = [(cell, arm, "pivots") for cell in (NEAR, DETOURS) for arm in registered.PROFILES]
DATA = [(cell, "pivots", "imitation") for cell in registered.MORE_CELLS]


# --- B: cost --------------------------------------------------------------------------------------------------------


def cost_table(name: str, cell: str, pairs: Sequence[tuple[str, str]], costs: Sequence[str] = registered.COSTS) -> str:
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
            for cost in costs:
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


_MAX_DIVISIONS = 20


def false_alarms(name: str) -> str:
    """A/A: an arm at one config against itself, for ways to divide its seeds in halves; how often is p < 0.05?"""
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
                divisions = list(itertools.combinations(seeds[1:], len(seeds) // 2 - 1))
                for others in divisions[:: math.ceil(len(divisions) / _MAX_DIVISIONS)]:
                    half = [seeds[0], *others]
                    rest = [seed for seed in seeds if seed not in half]
                    gains = [table.gain(config, registered.SCORE, some, "test") for some in (half, rest)]
                    total += 1
                    alarms += crossed_difference(gains[0] - gains[1], is_bounded(registered.SCORE)).p_value < 0.05
    if not total:
        return "Needs four seeds."
    share = f"{alarms:,} of {total:,} comparisons of an arm with itself ({100 * alarms / total:.1f} %) have p < 0.05"
    return f"{share} ({configs} checkpoints, each with up to {_MAX_DIVISIONS} divisions of its seeds in halves)."
