"""Adaptive profiles: a few samples at every turn, more where it is not decided yet whether the turn is a pivot.

After each round the evidence of all turns together says which of them go on (:mod:`pivotrl.selection.stopping`).
Everything follows from the stored samples, so a resumed profile takes the same decisions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

from pivotrl.profiling.options import ProfileOptions
from pivotrl.protocols import Turn
from pivotrl.records import SampleGroup, SkippedTurn
from pivotrl.seeding import derive_seed
from pivotrl.selection.pass_rates import Evidence, PassRates, chance_of_pivot
from pivotrl.selection.stopping import is_pivot, undecided

Draw = Callable[[Sequence[Turn], int, int], list[SampleGroup]]
"""(turns, number of the first sample, samples) -> a group for each turn, see :mod:`pivotrl.profiling.drawing`."""

ROUND = 4
"""Samples of a turn in a round. Fewer save some samples, but compute the prompts more often."""
_CHUNK, _GROWTH = 64, 4
"""Where not all turns may be needed, about so many are decided together; later a quarter of those before, so that the
decisions, which look at all turns, take little time in all."""
_SURELY = 1e-3
"""A turn is not sampled at all if its demonstration leaves it less than this chance of being a pivot."""


def draw_as_needed(
    turns: Sequence[Turn], draw: Draw, options: ProfileOptions, at_least: Mapping[str, float]
) -> tuple[list[SampleGroup], list[SkippedTurn]]:
    """The groups, in the order of the turns, and the turns that need no samples: ``too_likely``, where the policy takes
    the demonstrated action too often for a pivot, and ``not_needed``, once ``wanted_pivots`` are found.

    Args:
        at_least: by turn id, a pass rate that the turn certainly has.
    """
    jeffreys = PassRates.fit([])
    open_turns, skipped = list[Turn](), list[SkippedTurn]()
    for turn in turns:
        told = Evidence(0, 0, _rounded(at_least.get(turn.id, 0.0)))
        if chance_of_pivot(told, jeffreys.posterior(told), options.num_samples, options.max_mean) < _SURELY:
            detail = f"the policy takes the demonstrated action with probability {at_least[turn.id]:.3f}"
            skipped.append(SkippedTurn(turn_id=turn.id, reason="too_likely", detail=detail))
        else:
            open_turns.append(turn)
    groups = dict[str, SampleGroup]()
    for chunk in _chunks(open_turns, options):
        if options.wanted_pivots is not None:
            found = sum(is_pivot(evidence_of(group), options.max_mean) for group in groups.values())
            if found >= options.wanted_pivots:
                skipped += [SkippedTurn(turn_id=turn.id, reason="not_needed") for turn in chunk]
                continue
        _decide(chunk, groups, draw, options, at_least)
    return [groups[turn.id] for turn in turns if turn.id in groups], skipped


def evidence_of(group: SampleGroup, at_least: float = 0.0) -> Evidence:
    """The rewards of a group as evidence; samples without a verdict say nothing."""
    rewards = group.rewards
    return Evidence(sum(rewards), len(rewards), _rounded(at_least))


def _decide(
    chunk: Sequence[Turn],
    groups: dict[str, SampleGroup],
    draw: Draw,
    options: ProfileOptions,
    at_least: Mapping[str, float],
) -> None:
    """Sample the turns of a chunk until enough is known; adds to ``groups``, whose turns tell about pass rates too."""
    assert options.adaptive is not None
    active = list(chunk)
    while active:
        stuck = set[str]()
        for first, together in _by_number_drawn(active, groups):
            count = min(ROUND, options.num_samples - first)
            for group in draw(together, first, count):
                known = groups.get(group.turn_id)
                groups[group.turn_id] = known.with_more(group) if known else group
            stuck |= {turn.id for turn in together if _num_drawn(turn, groups) == first}
        evidence_N = [evidence_of(group, at_least.get(name, 0.0)) for name, group in groups.items()]
        places = undecided(evidence_N, options.num_samples, options.max_mean, options.adaptive)
        names = list(groups)
        go_on = {names[place] for place in places} - stuck  # samples that did not come are not asked for again
        active = [turn for turn in chunk if turn.id in go_on and _num_drawn(turn, groups) < options.num_samples]


def _num_drawn(turn: Turn, groups: Mapping[str, SampleGroup]) -> int:
    return len(groups[turn.id].completions_G) if turn.id in groups else 0


def _by_number_drawn(turns: Sequence[Turn], groups: Mapping[str, SampleGroup]) -> list[tuple[int, list[Turn]]]:
    """The turns by the number of their samples. They are nearly always equal: turns that stopped rarely go on."""
    by_number: dict[int, list[Turn]] = {}
    for turn in turns:
        by_number.setdefault(_num_drawn(turn, groups), []).append(turn)
    return sorted(by_number.items())


def _chunks(turns: Sequence[Turn], options: ProfileOptions) -> list[list[Turn]]:
    """All turns at once; in random order and in chunks of whole trajectories where not all may be needed."""
    if options.wanted_pivots is None:
        return [list(turns)]
    piles = [list(pile) for _, pile in itertools.groupby(turns, key=lambda turn: turn.trajectory.id)]
    piles.sort(key=lambda pile: derive_seed(options.profile_seed, "chunk", pile[0].trajectory.id))
    chunks: list[list[Turn]] = [[]]
    before = 0
    for pile in piles:
        if len(chunks[-1]) >= max(_CHUNK, before // _GROWTH):
            before += len(chunks[-1])
            chunks.append([])
        chunks[-1] += pile
    return chunks


def _rounded(probability: float) -> float:
    """Down to hundredths, so that many turns share their arithmetic."""
    return int(100 * probability) / 100
