"""The report of a comparison: ``comparison.html`` for people, ``comparison.json`` for programs."""

from __future__ import annotations

import dataclasses
import json
import math
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from pivotrl.comparison.advice import Advice, advise
from pivotrl.comparison.arms import ARMS
from pivotrl.comparison.choosing import best_within, is_bounded
from pivotrl.comparison.matching import Match, matches, paid, times
from pivotrl.comparison.points import BASE
from pivotrl.comparison.table import Table
from pivotrl.evaluation.differences import Difference, crossed_difference
from pivotrl.storage.record_files import write_file

LABELS = {
    "turns/greedy": "turns, greedy",
    "turns/sampled": "turns, T = 1",
    "episodes/greedy": "episodes, greedy",
    "episodes/sampled": "episodes, T = 1",
    "progress/greedy": "own-history progress",
    "nll": "NLL outside the task, nats",
    "answers": "answers outside the task",
    "kl/tasks": "KL at held-out turns, nats",
    "kl/answers": "KL at questions, nats",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """An arm at the config that validation chose, and its test changes from before training."""

    title: str
    rate: float | None
    """None, like the step: validation chose the policy before training, because no training helps."""
    step: int | None
    seeds: int
    rollout_turns: float
    seconds: float
    gains: dict[str, Difference]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """All that the page shows."""

    score: str
    harm: str | None
    before: dict[str, float]
    rows: list[Row]
    matches: list[Match]
    """The first arm that samples against each other one."""
    advice: Advice | None
    price_per_hour: float | None = None
    finished: bool = True
    """False: the grid was interrupted, and these are the trials done so far."""

    def as_json(self) -> dict[str, Any]:
        """A cost of a score that was not reached is null."""
        found: dict[str, Any] = _finite(dataclasses.asdict(self))
        return found


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def score_of(table: Table, asked: str | None) -> str:
    """The measure that counts: the given one, else greedy episodes if there are any, else greedy turns."""
    return asked or ("episodes/greedy" if "episodes/greedy" in table.measures() else "turns/greedy")


def harm_of(table: Table) -> str | None:
    """The measure of forgetting: reference texts, else questions' KL; None if nothing outside the task was measured."""
    return next((measure for measure in ("nll", "kl/answers") if measure in table.measures()), None)


def conclude(table: Table, arms: tuple[str, ...], score: str | None = None) -> Comparison:
    """What the points say; the advice is between the first two arms."""
    chosen, harm = score_of(table, score), harm_of(table)
    first = [measure for measure in (chosen, harm) if measure is not None]
    measures = [*first, *(m for m in LABELS if m in table.measures() and m not in first)]
    before = {m: float(table.values(None, m, table.base_seeds, "test").mean()) for m in measures}
    rows = []
    for arm in arms:
        if not (seeds := table.seeds(arm)):
            continue
        config = best_within(table, arm, chosen, seeds=seeds)
        costs = table.costs(config, seeds)
        rows.append(
            Row(
                title=ARMS[arm].title,
                rate=None if config.arm == BASE else config.rate,
                step=None if config.arm == BASE else config.step,
                seeds=len(seeds),
                rollout_turns=sum(cost.rollout_turns for cost in costs) / len(costs),
                seconds=sum(cost.seconds for cost in costs) / len(costs),
                gains={m: crossed_difference(table.gain(config, m, seeds, "test"), is_bounded(m)) for m in measures},
            )
        )
    titles = {arm: ARMS[arm].title for arm in arms}
    advice = advise(table, arms[1], arms[0], titles, chosen, harm) if len(arms) > 1 else None
    return Comparison(chosen, harm, before, rows, matches(table, arms, chosen), advice)


def told_config(row: Row) -> tuple[str, str]:
    """Rate and step as text."""
    return ("no training helps", "-") if row.rate is None else (f"{row.rate:g}", str(row.step))


def told(measure: str, difference: Difference) -> str:
    """``+3.1 [-0.2, +6.4]``: points, or nats."""
    return "{} [{}, {}]".format(*(amount(measure, v, "+") for v in (difference.mean, difference.low, difference.high)))


def amount(measure: str, value: float, sign: str = "") -> str:
    """Shares in percent or points, nats with three digits."""
    return f"{100 * value:{sign}.1f}" if is_bounded(measure) else f"{value:{sign}.3f}"


def write_comparison(
    directory: Path,
    table: Table,
    arms: tuple[str, ...],
    score: str | None = None,
    price_per_hour: float | None = None,
    finished: bool = True,
) -> Comparison:
    """Write ``comparison.json`` and ``comparison.html``.

    Args:
        price_per_hour: of the machine; the cost of a training is told in money too.

    Raises:
        InputError: the ``report`` extra is not installed.
    """
    import jinja2

    from pivotrl.comparison.pictures import curve_points, curves, frontier, frontier_points

    made = dataclasses.replace(conclude(table, arms, score), price_per_hour=price_per_hour, finished=finished)
    write_file(directory / "comparison.json", json.dumps(made.as_json(), indent=2) + "\n")
    titles = {arm: ARMS[arm].title for arm in arms}
    picture = ""
    if made.harm is not None:
        picture = frontier(table, titles, made.score, made.harm, (f"{LABELS[made.harm]}, change", LABELS[made.score]))
    cost_pictures, cost_numbers = [], []
    for cost in ("rollout turns", "seconds"):
        ratios = {match.second: match.ratio for match in made.matches if match.cost == cost}
        if ratios:
            rates = {made.matches[0].first: next(iter(ratios.values())).first.rate}
            rates |= {arm: ratio.second.rate for arm, ratio in ratios.items()}
            cost_pictures.append(curves(table, rates, titles, made.score, cost, LABELS[made.score]))
            points = {arm: curve_points(table, arm, rate, made.score, cost) for arm, rate in rates.items()}
            cost_numbers.append([(titles[arm], point) for arm, found in points.items() for point in found])
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string((resources("pivotrl.comparison") / "page.html.jinja").read_text("utf-8"))
    page = template.render(
        made=made,
        labels=LABELS,
        told=told,
        told_config=told_config,
        amount=amount,
        times=times,
        titles=titles,
        paid=paid,
        picture=_svg_of(picture),
        frontier_numbers=frontier_points(table, titles, made.score, made.harm) if made.harm is not None else [],
        cost_pictures=[(_svg_of(one), rows) for one, rows in zip(cost_pictures, cost_numbers, strict=True)],
    )
    write_file(directory / "comparison.html", page)
    return made


def _svg_of(document: str) -> str:
    return document[document.find("<svg") :] if document else ""
