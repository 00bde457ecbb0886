"""Groups of turns, made batch by batch and stored before the next batch begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pivotrl.protocols import Turn
from pivotrl.protocols.observing import Observer
from pivotrl.records import SampleGroup
from pivotrl.storage.record_files import RecordFile
from pivotrl.turns import whole_trajectories


def in_batches(
    turns: Sequence[Turn],
    make: Callable[[Sequence[Turn]], Iterable[SampleGroup]],
    file: RecordFile[SampleGroup],
    batch_turns: int,
    observer: Observer,
    only_missing: bool = False,
    first: int = 0,
    what: str = "turns profiled",
) -> list[SampleGroup]:
    """The groups of the turns, made and written batch by batch where the file lacks them.

    Args:
        only_missing: make only the groups of a batch that the file lacks, where each costs money. Otherwise a batch is
            made whole, because what a local model draws may depend on the turns beside it.
        first: number of the groups' first sample.
        what: is counted, for the observer.

    Returns:
        the groups in the order of the turns, without those that could not be made.
    """

    def is_open(turn: Turn) -> bool:
        return _key(turn, first) not in file

    batches = whole_trajectories(turns, batch_turns)
    open_batches = [batch for batch in batches if any(map(is_open, batch))]
    done = len(turns) - sum(map(len, open_batches))
    observer.progress(what, done, len(turns))
    for batch in open_batches:
        made = make(list(filter(is_open, batch)) if only_missing else batch)
        file.append([group for group in made if group.key not in file])
        done += len(batch)
        observer.progress(what, done, len(turns))
    return [file.get(_key(turn, first)) for turn in turns if not is_open(turn)]


def _key(turn: Turn, first: int) -> str:
    return SampleGroup(turn_id=turn.id, completions_G=(), first=first).key
