"""Which sources can be compared turn by turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pivotrl.report.browser.index import Index
from pivotrl.report.browser.sources import Source

Pair = tuple[int, int, str]
"""(before, after, title)."""


def pairs_of(sources: Sequence[Source], index: Index, num_own: int) -> list[Pair]:
    """Pairs that share a turn: an evaluation before training and one after it at the same temperature, the profile and
    a training, and the same measurement in two runs.

    Args:
        num_own: sources of this run; those of another one follow.
    """
    turns = [index.turns_of(number) for number in range(len(sources))]
    return [pair for pair in _candidates(sources, num_own) if not turns[pair[0]].isdisjoint(turns[pair[1]])]


def _candidates(sources: Sequence[Source], num_own: int) -> Iterator[Pair]:
    own = list(enumerate(sources[:num_own]))
    for before, old in own:
        for after, new in own:
            if _is_later(old, new):
                yield before, after, f"{old.title} → {new.title}"
    for before, old in own:
        for after, new in enumerate(sources[num_own:], start=num_own):
            if new.name.endswith(f": {old.name}"):
                yield before, after, f"{old.run} → {new.run}: {old.title}"


def _is_later(old: Source, new: Source) -> bool:
    if old.episodes or new.episodes:
        return False
    if old.kind == "profile":
        return new.kind == "training"
    is_measured_again = old.stage == "evaluations/before" and new.kind == "evaluation" and new.stage != old.stage
    return is_measured_again and new.temperature == old.temperature
