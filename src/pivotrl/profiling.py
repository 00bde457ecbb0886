"""How the frozen reference policy fares at each candidate turn (paper eq. 4). Bought once, stored raw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pivotrl.protocols import Sampler, Turn, Verifier
from pivotrl.records import SampleGroup, Sampling, SkippedTurn
from pivotrl.rollouts import misfit, sample_groups
from pivotrl.store import RecordFile
from pivotrl.turns import whole_trajectories

Progress = Callable[[int, int, str], None]
"""Called with (done, total, a few words) before the first piece of work and after each."""


@dataclass(frozen=True)
class ProfileOptions:
    """How the reference policy is sampled."""

    num_samples: int = 16
    """K, samples per candidate turn."""
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    """Only the k most probable tokens are drawn; None: all."""
    max_tokens: int = 256
    profile_seed: int = 0
    batch_turns: int = 16
    """About so many turns are sampled together, those of a trajectory always; results reach the disk after each
    batch."""


def silent(done: int, total: int, note: str) -> None:
    """No progress shown."""


def profile(
    turns: Sequence[Turn],
    sampler: Sampler,
    verifier: Verifier,
    path: Path,
    options: ProfileOptions = ProfileOptions(),
    progress: Progress = silent,
) -> tuple[list[SampleGroup], list[SkippedTurn]]:
    """Sample and verify K actions at each turn; append the groups to ``path``, a batch at a time.

    Turns already in the file are not sampled again. Batches are cut from the whole list of turns, so an
    interrupted run ends with the same file as an uninterrupted one.

    Returns:
        the groups in the order of ``turns``, and the turns that do not fit the model's context or that its chat
        template cannot write.
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
    left_out = [SkippedTurn(turn_id=name, reason=reason) for name, reason in faults.items() if reason is not None]
    file = RecordFile(path, SampleGroup, key=lambda group: group.turn_id)
    batches = whole_trajectories(fitting, options.batch_turns)
    open_batches = [batch for batch in batches if any(turn.id not in file for turn in batch)]
    done = len(fitting) - sum(map(len, open_batches))
    progress(done, len(fitting), "turns profiled")
    for batch in open_batches:
        groups = sample_groups(batch, sampler, verifier, options.num_samples, sampling)
        file.append([group for group in groups if group.turn_id not in file])
        done += len(batch)
        progress(done, len(fitting), "turns profiled")
    by_turn = {group.turn_id: group for group in file}
    return [by_turn[turn.id] for turn in fitting], left_out


def outcome_counts(groups: Sequence[SampleGroup]) -> dict[str, int]:
    """Groups by outcome: always_pass, always_fail, mixed, no_verdict; and samples without a verdict."""
    counts = Counter({"always_pass": 0, "always_fail": 0, "mixed": 0, "no_verdict": 0, "samples_without_verdict": 0})
    for group in groups:
        rewards = group.rewards
        counts["samples_without_verdict"] += len(group.verdicts_G) - len(rewards)
        if not rewards:
            counts["no_verdict"] += 1
        elif min(rewards) != max(rewards):
            counts["mixed"] += 1
        elif rewards[0] > 0:
            counts["always_pass"] += 1
        else:
            counts["always_fail"] += 1
    return dict(counts)
