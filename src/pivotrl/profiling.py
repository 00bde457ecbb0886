"""Measures the frozen reference policy at each candidate turn (paper eq. 4). Samples are drawn once and stored raw."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pivotrl.advantages import have_spread
from pivotrl.options import AtLeast1, NotNegative, check, refuse
from pivotrl.protocols import Sampler, Turn, Verifier
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.records import SampleGroup, Sampling, SkippedTurn
from pivotrl.rollouts import SampleFaults, joined, judged_groups, misfit, sample_groups
from pivotrl.storage.record_files import RecordFile
from pivotrl.turns import whole_trajectories

_NUM_REASONS = 3
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class ProfileOptions:
    """How the reference policy is sampled."""

    num_samples: AtLeast1 = 16
    """K, samples per candidate turn."""
    temperature: NotNegative = 1.0
    """Temperature at which the profile is sampled."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Only the most probable tokens that together reach this probability are drawn; 1: all."""
    top_k: AtLeast1 | None = None
    """Draw only from the k most probable tokens; None: from all."""
    max_tokens: AtLeast1 = 256
    """Longest action, in tokens; a longer one is cut off and fails."""
    profile_seed: int = 0
    """Seed of the profile's samples."""
    batch_turns: AtLeast1 = 16
    """About how many turns to sample together; turns of one trajectory always are. Results are written after each
    batch."""

    def __post_init__(self) -> None:
        check(self)
        if self.num_samples > 1 and (self.temperature == 0 or self.top_k == 1):
            refuse("num_samples", self.num_samples, "at --temperature 0 or --top-k 1 would repeat one sample")


def profile(
    turns: Sequence[Turn],
    sampler: Sampler,
    verifier: Verifier,
    path: Path,
    options: ProfileOptions = ProfileOptions(),
    observer: Observer = SILENT,
) -> tuple[list[SampleGroup], list[SkippedTurn]]:
    """Sample and verify K actions at each turn; append the groups to ``path``, one batch at a time.

    Turns already in the file are not sampled again. Batches are cut from the whole list of turns, so an
    interrupted run ends with the same file as an uninterrupted one. A turn whose samples a server did not give is asked
    once more at the end, then left out.

    Returns:
        the groups in the order of ``turns``, and the turns that do not fit the model's context, that its chat
        template cannot write, or that got no samples.
    """
    sampling = Sampling(
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        max_tokens=options.max_tokens,
        seed=options.profile_seed,
    )
    faults = {turn.id: misfit(sampler, turn, options.max_tokens) for turn in turns}
    fitting = [turn for turn in turns if faults[turn.id] is None]
    left_out = [fault for fault in faults.values() if fault is not None]
    is_paid = getattr(sampler, "is_paid", False)
    missing: dict[str, str] = {}

    def draw(batch: Sequence[Turn]) -> list[SampleGroup]:
        drawn = list(sample_groups(batch, sampler, verifier, options.num_samples, sampling))
        missing.update({group.turn_id: group.fault for group in drawn if group.fault is not None})
        return [group for group in drawn if group.fault is None]

    profiled = _in_batches(fitting, draw, path, options.batch_turns, observer, only_missing=is_paid)
    if missing:
        profiled = _in_batches(fitting, draw, path, options.batch_turns, observer, only_missing=True)
    known = {group.turn_id for group in profiled}
    left_out += [SkippedTurn(turn_id=turn.id, reason=missing[turn.id]) for turn in fitting if turn.id not in known]
    SampleFaults.of(profiled).warn(f"--max-tokens (now {options.max_tokens})")
    return profiled, left_out


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

    return _in_batches(turns, judge, path, batch_turns, observer)


def _in_batches(
    turns: Sequence[Turn],
    make: Callable[[Sequence[Turn]], Iterable[SampleGroup]],
    path: Path,
    batch_turns: int,
    observer: Observer,
    only_missing: bool = False,
) -> list[SampleGroup]:
    """The groups of the turns, made and written batch by batch where the file lacks them.

    Args:
        only_missing: make only the groups of a batch that the file lacks, where each costs money. Otherwise a batch is
            made whole, because what a local model draws may depend on the turns beside it.
    """
    file = RecordFile(path, SampleGroup)
    batches = whole_trajectories(turns, batch_turns)
    open_batches = [batch for batch in batches if any(turn.id not in file for turn in batch)]
    done = len(turns) - sum(map(len, open_batches))
    observer.progress("turns profiled", done, len(turns))
    for batch in open_batches:
        made = make([turn for turn in batch if turn.id not in file] if only_missing else batch)
        file.append([group for group in made if group.turn_id not in file])
        done += len(batch)
        observer.progress("turns profiled", done, len(turns))
    by_turn = {group.turn_id: group for group in joined(file)}
    return [by_turn[turn.id] for turn in turns if turn.id in by_turn]


def why_none_fits(left_out: Sequence[SkippedTurn], max_tokens: int) -> str:
    """Why no turn can be sampled, and remedies: each reason with its count and its first turn."""
    by_reason: dict[tuple[str, str], list[SkippedTurn]] = {}
    for skip in left_out:
        by_reason.setdefault((skip.reason, _NUMBER.sub("", skip.detail)), []).append(skip)
    often = sorted(by_reason.values(), key=len, reverse=True)
    told = [
        f"{len(skips)} {skips[0].reason}{skips[0].detail and f', {skips[0].detail}'} (such as {skips[0].turn_id})"
        for skips in often[:_NUM_REASONS]
    ]
    told += [f"{len(often) - _NUM_REASONS} more reasons"] if len(often) > _NUM_REASONS else []
    remedies = {
        "context_too_long": f"For long turns, use a model with a longer context, or --max-tokens below {max_tokens}",
        "not_renderable": "For turns that cannot be rendered, use a model whose chat template writes them, or "
        "--policy \"hf(style='chatml')\" if the tokenizer has ChatML's tokens",
    }
    helps = [remedy for reason, remedy in remedies.items() if any(skip.reason == reason for skip in left_out)]
    return ". ".join(["; ".join(told), *helps])


def outcome_counts(groups: Sequence[SampleGroup]) -> dict[str, int]:
    """Counts of groups by outcome (always_pass, always_fail, mixed, no_verdict) and of samples that were cut off,
    malformed or without a verdict."""
    counts = Counter({"always_pass": 0, "always_fail": 0, "mixed": 0, "no_verdict": 0})
    for group in groups:
        rewards = group.rewards
        if not rewards:
            counts["no_verdict"] += 1
        elif have_spread(rewards):
            counts["mixed"] += 1
        elif rewards[0] > 0:
            counts["always_pass"] += 1
        else:
            counts["always_fail"] += 1
    faults = SampleFaults.of(groups)
    return {
        **counts,
        "samples_cut_off": faults.cut_off,
        "samples_malformed": faults.malformed,
        "samples_without_verdict": faults.without_verdict,
    }
