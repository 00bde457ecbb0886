"""Candidate turns -> plan/pilot/: the samples of a few turns, from which a profile and a training can be planned."""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pivotrl.evaluation.divergence import can_score
from pivotrl.judging.guarded import Verification, VerificationOptions
from pivotrl.judging.lint import CheckOptions, require_checked
from pivotrl.options import Positive, check, options_dict, refuse
from pivotrl.plugins.describing import describe, own_code, spec_of
from pivotrl.plugins.shapes import require_sampler, require_verifier
from pivotrl.profiling import ProfileOptions, outcome_counts, why_none_fits
from pivotrl.protocols import InputError, Sampler, Turn, Verifier, describe_policy
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.records import BatchTime, LostTry, SampleGroup, SkippedTurn
from pivotrl.rollouts import continuation_turns, lost_path, misfit, sample_groups, store_lost
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import PILOT
from pivotrl.runs.manifest import find_manifest
from pivotrl.runs.replacing import move_aside
from pivotrl.runs.stage import CONTINUED, Stage, reopen, require_same, seconds_spent
from pivotrl.storage.record_files import RecordFile, sha256_of_json
from pivotrl.turns import TurnOptions, cut, shuffled_by_task, whole_trajectories

T = TypeVar("T")

_SHARE, _LEAST = 0.01, 30


@dataclass(frozen=True)
class PilotOptions:
    """Which turns a pilot samples."""

    pilot: Positive | None = None
    """Sample this many candidate turns, or this share of them if it is below 1, even if there is a profile. None: 1 %
    of them, at least 30, if there is no profile."""
    pilot_seed: int = 0
    """Seed of the turns that the pilot draws."""

    def __post_init__(self) -> None:
        check(self)
        if self.pilot is not None and self.pilot > 1 and self.pilot != int(self.pilot):
            refuse("pilot", self.pilot, "is neither a whole number of turns nor a share below 1")

    def num_turns(self, num_candidates: int) -> int:
        if self.pilot is None:
            wanted = max(_LEAST, math.ceil(_SHARE * num_candidates))
        else:
            wanted = math.ceil(self.pilot * num_candidates) if self.pilot < 1 else int(self.pilot)
        return min(wanted, num_candidates)


@dataclass(frozen=True)
class Pilot:
    """Sampled turns that speak for all candidate turns."""

    candidates: Sequence[Turn]
    asked: Sequence[Turn]
    """Turns that the sampler was asked for; those without a group could not be sampled."""
    groups: Mapping[str, SampleGroup]
    """By turn id."""
    profiling: ProfileOptions
    times: Sequence[BatchTime]
    scores_demonstrations: bool
    """Whether a profile also scores the demonstrated actions."""
    is_random: bool = True
    """Whether every candidate turn had the same chance to be asked for."""
    is_profile: bool = False
    lost_tokens: Mapping[str, int] = field(default_factory=dict)
    """By turn id, sampled by a server in tries that gave no samples."""


def in_pilot_order(turns: Sequence[Turn], seed: int) -> list[Turn]:
    """All turns, in an order whose every beginning is spread evenly over tasks and gives each turn the same chance.

    The turns, shuffled by task, form a circle. Points of van der Corput's sequence are laid around it from a random
    start; each point takes the turn where it falls.
    """
    generator = random.Random(seed)  # noqa: S311
    circle = [turn for task in shuffled_by_task(turns, generator) for turn in task]
    start = generator.random()
    num_bits = max(1, (len(circle) - 1).bit_length())
    points = (int(f"{number:0{num_bits}b}"[::-1], 2) / 2**num_bits for number in range(2**num_bits))
    places = dict.fromkeys(int((point + start) % 1 * len(circle)) for point in points)
    return [circle[place] for place in places]


def pilot_stage(
    directory: Path,
    *,
    sampler: Sampler,
    verifier: Verifier,
    turns: TurnOptions = TurnOptions(),
    profiling: ProfileOptions = ProfileOptions(),
    pilot: PilotOptions = PilotOptions(),
    checking: CheckOptions = CheckOptions(),
    verification: VerificationOptions = VerificationOptions(),
    overwrite: bool = False,
    observer: Observer = SILENT,
) -> Pilot:
    """A few candidate turns -> ``plan/pilot/groups.jsonl`` (samples and verdicts), ``times.jsonl`` (seconds of each
    batch) and ``skipped.jsonl``. The samples are those that a profile with these options draws at the same turns.

    A larger ``pilot`` than before adds turns to those sampled already.

    Args:
        overwrite: move an earlier pilot aside.

    Raises:
        InputError: as :func:`pivotrl.stages.profiling.profile_stage`.
    """
    require_verifier(verifier)
    require_sampler(sampler)
    files = RunFiles(directory)
    candidates, _ = cut(files.trajectories(), turns)
    if not candidates:
        raise InputError(f"no candidate turns in {directory}; choose another --domain or read other logs")
    settings = {
        **options_dict(turns),
        **options_dict(profiling),
        "pilot_seed": pilot.pilot_seed,
        "verifier": describe(verifier),
    }
    inputs = {"trajectories.jsonl": files.sha256("trajectories.jsonl"), **own_code(verifier)}
    if not overwrite:
        require_same(directory, PILOT, settings, inputs)
    report, _ = require_checked(directory, candidates, verifier, checking, observer, sampler, verification)
    inputs["policy"] = sha256_of_json(sampler.identity)
    if overwrite:
        move_aside(directory, PILOT)
    wanted = pilot.num_turns(len(candidates))
    old = find_manifest(directory, PILOT)
    if old is not None:
        had = int(old.options.get("pilot_turns") or 0)
        if old.status == "complete" and wanted > had:
            reopen(directory, PILOT, {"pilot_turns": wanted})
        wanted = max(wanted, had)
    drawn = {turn.id for turn in in_pilot_order(candidates, pilot.pilot_seed)[:wanted]}
    asked = [turn for turn in candidates if turn.id in drawn]
    limits = {"pilot_turns": wanted, **options_dict(checking), **options_dict(verification)}
    with Stage(
        directory,
        PILOT,
        {**settings, **limits},
        inputs,
        (*limits, CONTINUED),
        describe_policy(sampler),
        is_verified=True,
        plugins={"verifier": spec_of(verifier)},
        observer=observer,
    ) as stage:
        folder = directory / PILOT
        file, times = RecordFile(folder / "groups.jsonl", SampleGroup), RecordFile(folder / "times.jsonl", BatchTime)
        if not stage.done:
            with Verification(verifier, verification, candidates, sampler) as guarded:
                left_out = _sample(asked, sampler, guarded, profiling, folder, file, times, observer)
            if not len(file):
                raise InputError(
                    f"none of the {len(asked)} turns of the pilot can be sampled: "
                    f"{why_none_fits(left_out, profiling.max_tokens)}"
                )
            groups = list(file)
            stage.finish(
                {
                    "asked_turns": len(asked),
                    "sampled_turns": len(groups),
                    "candidate_turns": len(candidates),
                    "skipped": dict(Counter(skip.reason for skip in left_out)),
                    **outcome_counts(groups),
                },
                num_rollout_turns=sum(len(group.completions_G) for group in groups)
                + continuation_turns(groups)
                + sum(batch.num_turns for batch in times if batch.kind == "prompts")
                + report.num_rollout_turns
                + guarded.num_rollout_turns,
            )
        found = {group.turn_id: group for group in file}
        lost = _lost_tokens(file.path)
        return Pilot(candidates, asked, found, profiling, list(times), can_score(sampler), lost_tokens=lost)


def _sample(
    asked: Sequence[Turn],
    sampler: Sampler,
    verifier: Verifier,
    options: ProfileOptions,
    folder: Path,
    file: RecordFile[SampleGroup],
    times: RecordFile[BatchTime],
    observer: Observer,
) -> list[SkippedTurn]:
    """Sample the turns that the file lacks; what each batch took is stored beside it. Returns the turns left out."""
    misfits = [found for turn in asked if (found := misfit(sampler, turn, options.max_tokens)) is not None]
    unfit = {skip.turn_id for skip in misfits}
    fitting = [turn for turn in asked if turn.id not in unfit]
    missing = [turn for turn in fitting if turn.id not in file]
    observer.progress("turns of the pilot", len(fitting) - len(missing), len(fitting))
    batches = whole_trajectories(missing, options.batch_turns)
    faults = []
    done = len(fitting) - len(missing)
    for batch in batches:
        began = time.monotonic()
        groups = list(sample_groups(batch, sampler, verifier, options.num_samples, options.sampling))
        seconds = time.monotonic() - began
        faults += [SkippedTurn(turn_id=group.turn_id, reason=group.fault) for group in groups if group.fault]
        store_lost(file.path, groups)
        kept = [group for group in groups if group.fault is None]
        file.append(kept)
        times.append([_time("samples", batch, kept, seconds)])
        done += len(batch)
        observer.progress("turns of the pilot", done, len(fitting))
    if batches and not getattr(sampler, "is_paid", False):
        batch = batches[-1]
        began = time.monotonic()
        alone = list(sampler.sample(batch, 1, options.sampling.model_copy(update={"max_tokens": 1})))
        times.append([_time("prompts", batch, alone, time.monotonic() - began)])
    skipped = RecordFile(folder / "skipped.jsonl", SkippedTurn)
    skipped.append([skip for skip in (*misfits, *faults) if skip.turn_id not in skipped])
    return [*misfits, *faults]


def _time(kind: str, batch: Sequence[Turn], groups: Sequence[SampleGroup], seconds: float) -> BatchTime:
    return BatchTime(
        kind="prompts" if kind == "prompts" else "samples",
        first_turn=batch[0].id,
        num_turns=len(batch),
        num_samples=sum(len(group.completions_G) for group in groups),
        computed_tokens=sum(group.num_prefilled_tokens for group in groups),
        sampled_tokens=sum(len(completion.token_ids_T) for group in groups for completion in group.completions_G),
        seconds=seconds,
    )


def profile_as_pilot(directory: Path) -> Pilot | None:
    """The profile of a run, finished or not, in place of a pilot; None if nothing has been profiled."""
    manifest = find_manifest(directory, "profile")
    files = RunFiles(directory)
    groups = files.profiled() if manifest else {}
    if manifest is None or not groups:
        return None
    if manifest.options.get("adaptive") is not None:
        raise InputError(
            f"the profile of {directory} is adaptive, so its turns have different numbers of samples and say less of "
            "the others; give --pilot N, which samples a pilot of its own"
        )
    is_complete = manifest.status == "complete"
    candidates, _ = cut(files.trajectories(), _options(TurnOptions, manifest.options))
    asked = candidates if is_complete else [turn for turn in candidates if turn.id in groups]
    scores = len(files.demonstrations()) > 0
    profiling = _options(ProfileOptions, manifest.options)
    # Samples that were made elsewhere took no time here.
    is_from_here = "samples" not in manifest.options
    seconds = seconds_spent(directory, "profile", manifest)
    times = [_time("samples", asked, list(groups.values()), seconds)] if is_from_here else []
    lost = _lost_tokens(directory / "profiles.jsonl")
    return Pilot(candidates, asked, groups, profiling, times, scores, is_complete, True, lost)


def _lost_tokens(path: Path) -> dict[str, int]:
    """By turn id, of the tries without samples beside this file."""
    lost: Counter[str] = Counter()
    for one in RecordFile(lost_path(path), LostTry):
        lost[one.turn_id] += one.num_tokens
    return dict(lost)


def _options(kind: type[T], recorded: Mapping[str, object]) -> T:
    """A dataclass of options from a manifest; what it does not say has its default."""
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in recorded.items() if name in names})
