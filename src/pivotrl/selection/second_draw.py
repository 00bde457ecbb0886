"""How selected turns do on a second draw.

Turns that were selected because their samples looked mixed look less mixed in new samples (regression to the mean).
The samples that selected a turn therefore say nothing honest about it. Here one half of the samples of each turn
selects, by the same options, and the other half is looked at; then the other way round.

In an adaptive profile, the number of samples of a turn depends on what the first ones were, so halves of it are no
fresh draw. There the samples that every turn has select, and the next round, of the turns that got one, is looked at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from pivotrl.advantages import have_spread
from pivotrl.intervals import Estimate, clustered_mean
from pivotrl.records import SampleGroup
from pivotrl.selection.draws import Draw
from pivotrl.selection.evidence import evidence_of
from pivotrl.selection.limits import Facts
from pivotrl.selection.options import SelectionOptions
from pivotrl.selection.rules import decide

_LEAST = 2
"""Fewer samples cannot be mixed."""


@dataclass(frozen=True)
class Regression:
    """One number at the selected turns: in the samples that selected them, and in fresh ones."""

    selecting: float
    fresh: Estimate
    """Its 95 % interval is clustered by task."""


@dataclass(frozen=True)
class SecondDraw:
    """What fresh samples say of turns that others selected."""

    num_selecting: int
    """Samples of a turn that select."""
    num_fresh: int
    """Samples of a turn that are looked at."""
    num_ways: int
    """2: either half selects once, so that a turn may count twice."""
    num_turns: int = 0
    """Turns that were selected, summed over the ways."""
    num_unknown: int = 0
    """Those of them with fewer than two fresh verdicts, which are left out."""
    mixed: Regression | None = None
    """Share of turns whose samples are mixed; None where :attr:`why_not` says why."""
    mean: Regression | None = None
    """Mean reward."""
    variance: Regression | None = None
    """Mean of the variance within a turn."""
    why_not: str = ""

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def second_draw(groups: Sequence[SampleGroup], options: SelectionOptions, facts: Facts = Facts()) -> SecondDraw:
    """Of the turns that these options select.

    Raises:
        InputError: as :func:`pivotrl.selection.rules.select`.
    """
    ways = _ways(groups)
    if not ways:
        return SecondDraw(0, 0, 0, why_not="there are too few samples for two draws: each needs two of a turn")
    selecting: list[Draw] = []
    fresh: list[Draw] = []
    for first, second in ways:
        chosen = _selected([Draw.of(group, first) for group in groups], options, facts)
        selecting += chosen
        fresh += [Draw.of(draw.group, second) for draw in chosen]
    num_selecting, num_fresh = (place.stop - place.start for place in ways[0])
    found = SecondDraw(num_selecting, num_fresh, len(ways), num_turns=len(selecting))
    known = [place for place, draw in enumerate(fresh) if len(draw.rewards) >= _LEAST]
    found = dataclasses.replace(found, num_unknown=len(selecting) - len(known))
    if not known:
        return dataclasses.replace(found, why_not=_why_none(found))
    tasks = [facts.task_of(fresh[place].group.turn_id) for place in known]

    def compared(selecting_N: list[float], fresh_N: list[float]) -> Regression:
        return Regression(fmean(selecting_N), clustered_mean(fresh_N, tasks))

    before, after = [selecting[place] for place in known], [fresh[place] for place in known]
    return dataclasses.replace(
        found,
        mixed=compared([_is_mixed(draw) for draw in before], [_is_mixed(draw) for draw in after]),
        mean=compared([draw.mean or 0.0 for draw in before], [draw.mean or 0.0 for draw in after]),
        variance=compared([draw.variance or 0.0 for draw in before], [draw.variance or 0.0 for draw in after]),
    )


def _ways(groups: Sequence[SampleGroup]) -> list[tuple[slice, slice]]:
    """(samples that select, samples that are looked at), for each way."""
    sizes = sorted({len(group.completions_G) for group in groups})
    if not sizes:
        return []
    least = sizes[0]
    if len(sizes) == 1:
        half = least // 2
        first, second = slice(0, half), slice(half, 2 * half)
        return [(first, second), (second, first)] if half >= _LEAST else []
    first, second = slice(0, least), slice(least, sizes[1])
    return [(first, second)] if min(least, sizes[1] - least) >= _LEAST else []


def _selected(draws: Sequence[Draw], options: SelectionOptions, facts: Facts) -> list[Draw]:
    known = evidence_of(draws, options) if options.needs_posteriors else [None] * len(draws)
    reasons = decide(draws, known, options, facts)
    return [draw for draw, reason in zip(draws, reasons, strict=True) if reason == "pivot"]


def _is_mixed(draw: Draw) -> float:
    return float(have_spread(draw.rewards))


def _why_none(found: SecondDraw) -> str:
    if found.num_turns == 0:
        return f"{found.num_selecting} samples of each turn select none"
    return "none of the selected turns has two fresh verdicts"
