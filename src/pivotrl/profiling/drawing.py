"""profile(): K samples of the reference policy at each turn, or as many as the turn needs (:mod:`.adaptive`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pivotrl.profiling.adaptive import draw_as_needed
from pivotrl.profiling.batches import in_batches
from pivotrl.profiling.options import ProfileOptions
from pivotrl.protocols import Sampler, Turn, Verifier
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.records import SampleGroup, SkippedTurn
from pivotrl.rollouts import SampleFaults, judged_groups, misfit, sample_groups, store_lost
from pivotrl.storage.record_files import RecordFile


def profile(
    turns: Sequence[Turn],
    sampler: Sampler,
    verifier: Verifier,
    path: Path,
    options: ProfileOptions = ProfileOptions(),
    observer: Observer = SILENT,
    at_least: Mapping[str, float] | None = None,
    given: Mapping[str, SampleGroup] | None = None,
) -> tuple[list[SampleGroup], list[SkippedTurn]]:
    """Sample and verify K actions at each turn; append the groups to ``path``, one batch at a time.

    Turns already in the file are not sampled again. Batches are cut from the whole list of turns, so an
    interrupted run ends with the same file as an uninterrupted one. A turn whose samples a server did not give is asked
    once more at the end, then left out.

    Args:
        at_least: by turn id, a pass rate that the turn certainly has. An adaptive profile samples no turn that is too
            easy for that reason.
        given: by turn id, first samples with their verdicts that exist already; they are not drawn again.

    Returns:
        the groups in the order of ``turns``, and the turns without one: they do not fit the model's context, its chat
        template cannot write them, they got no samples, or an adaptive profile does not need them.
    """
    faults = {turn.id: misfit(sampler, turn, options.max_tokens) for turn in turns}
    fitting = [turn for turn in turns if faults[turn.id] is None]
    left_out = [fault for fault in faults.values() if fault is not None]
    asking = _Asking(sampler, verifier, RecordFile(path, SampleGroup), options, observer, given or {})
    if options.adaptive is None:
        profiled = asking.draw(fitting, 0, options.num_samples)
    else:
        profiled, not_needed = draw_as_needed(fitting, asking.draw, options, at_least or {})
        left_out += not_needed
    known = {group.turn_id for group in profiled} | {skip.turn_id for skip in left_out}
    left_out += [
        SkippedTurn(turn_id=turn.id, reason=asking.missing[turn.id]) for turn in fitting if turn.id not in known
    ]
    SampleFaults.of(profiled).warn(f"--max-tokens (now {options.max_tokens})")
    return profiled, left_out


@dataclass
class _Asking:
    """The sampler and the verifier, asked batch by batch."""

    sampler: Sampler
    verifier: Verifier
    file: RecordFile[SampleGroup]
    options: ProfileOptions
    observer: Observer
    given: Mapping[str, SampleGroup] = field(default_factory=dict)
    """Turn id -> samples that exist already."""
    missing: dict[str, str] = field(default_factory=dict)
    """Turn id -> why samples are missing."""

    def draw(self, turns: Sequence[Turn], first: int, count: int) -> list[SampleGroup]:
        """``count`` more samples of each turn, the first of which has the number ``first``: from the file, or drawn and
        stored. Turns whose samples are missing after the second try are left out."""

        def make(batch: Sequence[Turn]) -> list[SampleGroup]:
            drawn = self._sample(batch, first, count)
            self.missing.update({group.turn_id: group.fault for group in drawn if group.fault is not None})
            store_lost(self.file.path, drawn)
            return [group for group in drawn if group.fault is None]

        what = "turns profiled" if self.options.adaptive is None else f"turns with {first + count} samples"
        is_paid, size = getattr(self.sampler, "is_paid", False), self.options.batch_turns
        groups = in_batches(turns, make, self.file, size, self.observer, is_paid, first, what)
        if len(groups) < len(turns):
            groups = in_batches(turns, make, self.file, size, self.observer, True, first, what)
        return groups

    def _sample(self, batch: Sequence[Turn], first: int, count: int) -> list[SampleGroup]:
        """The samples that are given, and what they lack from the sampler."""
        parts = {turn.id: self.given[turn.id].taken(first, count) for turn in batch if turn.id in self.given}
        have = {turn.id: len(parts[turn.id].completions_G) if turn.id in parts else 0 for turn in batch}
        found = {name: part for name, part in parts.items() if have[name] == count}
        for number in sorted(set(have.values()) - {count}):
            together = [turn for turn in batch if have[turn.id] == number]
            rest, begin = count - number, first + number
            for group in sample_groups(together, self.sampler, self.verifier, rest, self.options.sampling, begin):
                found[group.turn_id] = parts[group.turn_id].with_more(group) if number else group
        return [found[turn.id] for turn in batch]


def judge_samples(
    turns: Sequence[Turn],
    groups: Mapping[str, SampleGroup],
    verifier: Verifier,
    path: Path,
    batch_turns: int = 16,
    observer: Observer = SILENT,
) -> list[SampleGroup]:
    """As :func:`profile`, with samples that exist already; verdicts that they have are replaced.

    Args:
        groups: by turn id, one for each of the turns.
    """

    def judge(batch: Sequence[Turn]) -> Iterable[SampleGroup]:
        return judged_groups(batch, [groups[turn.id] for turn in batch], verifier)

    return in_batches(turns, judge, RecordFile(path, SampleGroup), batch_turns, observer)
