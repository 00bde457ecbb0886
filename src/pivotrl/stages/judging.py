"""Samples that exist already -> profiles.jsonl. Here come samples made elsewhere."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pivotrl.judging.guarded import Verification, VerificationOptions, needs_policy
from pivotrl.judging.lint import CheckOptions, require_checked
from pivotrl.options import options_dict, refuse
from pivotrl.plugins.describing import describe, own_code, spec_of
from pivotrl.plugins.shapes import require_verifier
from pivotrl.profiling import ProfileOptions, judge_samples, outcome_counts
from pivotrl.protocols import InputError, Notice, Sampler, Turn, Verifier
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.reading.alternatives import count_alternatives
from pivotrl.records import SampleGroup, SkippedTurn
from pivotrl.rollouts import SampleFaults, continuation_turns, joined
from pivotrl.rows.prompts import Prompting
from pivotrl.rows.samples import Samples, SamplesHeader, read_samples
from pivotrl.runs.files import RunFiles
from pivotrl.runs.replacing import move_aside
from pivotrl.runs.stage import Stage, require_same
from pivotrl.storage.record_files import RecordFile, counted, read_records, sha256_of_json, write_file
from pivotrl.turns import TurnOptions, cut

_NUM_LISTED = 5
STAGE, FILE = "profile", "profiles.jsonl"
_COPIED = ("demonstrations.jsonl", "skipped.jsonl")
"""Files of a profile that do not depend on the verifier."""


@dataclass(frozen=True)
class Judging:
    """What a profile of given samples is made of, besides the samples."""

    turns: Sequence[Turn]
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    acting: Mapping[str, Any]
    """Who made the samples, for the manifest."""
    counts: Mapping[str, Any]
    """For the manifest, besides the outcomes."""
    num_bought: int
    """Rollout turns spent before anything is judged."""
    skipped: Sequence[SkippedTurn] = ()
    copied_from: Path | None = None
    """A folder with the files of a profile that stay as they are."""


def profile_samples_stage(
    directory: Path,
    paths: Sequence[Path],
    *,
    verifier: Verifier,
    prompting: Prompting | None = None,
    turns: TurnOptions = TurnOptions(),
    profiling: ProfileOptions = ProfileOptions(),
    checking: CheckOptions = CheckOptions(),
    verification: VerificationOptions = VerificationOptions(),
    overwrite: bool = False,
    observer: Observer = SILENT,
) -> list[SampleGroup]:
    """Samples made elsewhere (:mod:`pivotrl.rows.samples`) -> ``profiles.jsonl``, as if they had been sampled here.

    Candidate turns without samples go to ``skipped.jsonl`` with the reason ``no_samples``.

    Args:
        paths: files of samples.
        prompting: the tokenizer of the model that made them; needed for token ids.
        profiling: ``batch_turns`` counts. Of the sampling options only the default or what the samples say is accepted.
        overwrite: move an earlier profile, and everything made from it, aside as soon as the new one can begin.

    Raises:
        InputError: a file cannot be used, see :func:`pivotrl.rows.samples.read_samples`; or the verifier plays on.
    """
    require_verifier(verifier)
    if needs_policy(verifier):
        raise InputError(
            f"the verifier {describe(verifier)} plays on with the policy, which samples made elsewhere do not have; "
            "choose another with --verifier"
        )
    candidates, skipped = cut(RunFiles(directory).trajectories(), turns)
    samples = read_samples(paths, candidates, prompting)
    _require_same_sampling(samples, profiling)
    missing = [turn.id for turn in candidates if turn.id not in samples.groups]
    if not samples.groups:
        raise InputError(f"{', '.join(map(str, paths))}: no samples of any of the {len(candidates)} candidate turns")
    sampled = {name: getattr(samples.header, name) for name in ("temperature", "top_p", "top_k", "max_tokens")}
    settings = {
        **options_dict(turns),
        **options_dict(profiling),
        **sampled,
        "num_samples": samples.num_samples,
        "verifier": describe(verifier),
        "samples": [str(path) for path in paths],
    }
    identity = _identity(samples, prompting)
    skipped += [SkippedTurn(turn_id=name, reason="no_samples") for name in missing]
    judging = Judging(
        turns=[turn for turn in candidates if turn.id in samples.groups],
        settings=settings,
        inputs={"samples": samples.sha256, "policy": sha256_of_json(identity)},
        acting={
            **(prompting.named if prompting and samples.uses_tokenizer else {}),
            "made_by": samples.header.model,
            "identity": identity,
        },
        counts={
            "candidate_turns": len(candidates),
            "profiled_turns": len(samples.groups),
            "turns_with_fewer_samples": samples.num_short,
            "skipped": dict(Counter(skip.reason for skip in skipped)),
            **count_alternatives({turn.trajectory.id: turn.trajectory for turn in candidates}.values()),
        },
        num_bought=sum(len(group.completions_G) for group in samples.groups.values()),
        skipped=skipped,
    )
    groups = judged(directory, samples.groups, judging, verifier, checking, verification, None, overwrite, observer)
    if missing:
        listed = ", ".join(missing[:_NUM_LISTED]) + (", ..." if len(missing) > _NUM_LISTED else "")
        warnings.warn(
            f"{len(missing)} of {counted(len(candidates), 'candidate turn')} have no samples: {listed}; "
            f"{directory / 'skipped.jsonl'} lists them",
            Notice,
            stacklevel=2,
        )
    return groups


def judged(
    directory: Path,
    samples: Mapping[str, SampleGroup],
    judging: Judging,
    verifier: Verifier,
    checking: CheckOptions,
    verification: VerificationOptions,
    policy: Sampler | None,
    overwrite: bool,
    observer: Observer,
) -> list[SampleGroup]:
    """The stage: checks the verifier, judges the samples, writes the files of a profile."""
    files = RunFiles(directory)
    inputs = {"trajectories.jsonl": files.sha256("trajectories.jsonl"), **own_code(verifier), **judging.inputs}
    limits = {**options_dict(checking), **options_dict(verification)}
    told = (*limits, "samples")
    if not overwrite:
        known = {name: value for name, value in judging.settings.items() if name not in told}
        require_same(directory, STAGE, known, inputs)
    report, _ = require_checked(directory, judging.turns, verifier, checking, observer, policy, verification)
    if overwrite:
        move_aside(directory, STAGE)
    with Stage(
        directory,
        STAGE,
        {**judging.settings, **limits},
        inputs,
        told,
        judging.acting,
        is_verified=True,
        plugins={"verifier": spec_of(verifier)},
        observer=observer,
    ) as stage:
        if stage.done:
            return joined(read_records(directory / FILE, SampleGroup))
        if judging.copied_from is not None:
            for path in (judging.copied_from / name for name in _COPIED):
                if path.is_file():
                    write_file(directory / path.name, path.read_bytes())
        skipped = RecordFile(directory / "skipped.jsonl", SkippedTurn)
        skipped.append([skip for skip in judging.skipped if skip.turn_id not in skipped])
        batch_turns = judging.settings["batch_turns"]
        with Verification(verifier, verification, judging.turns, policy) as guarded:
            groups = judge_samples(judging.turns, samples, guarded, directory / FILE, batch_turns, observer)
        SampleFaults.of(groups).warn("the limit where they were made")
        stage.finish(
            {**judging.counts, **outcome_counts(groups)},
            judging.num_bought + continuation_turns(groups) + report.num_rollout_turns + guarded.num_rollout_turns,
        )
        return groups


def _require_same_sampling(samples: Samples, profiling: ProfileOptions) -> None:
    """
    Raises:
        InputError: an option was given that says something else than the samples.
    """
    default, header = ProfileOptions(), samples.header
    if profiling.adaptive is not None:
        refuse("adaptive", profiling.adaptive, "has no effect on samples that exist already; leave it out")
    told = {
        "num_samples": samples.num_samples,
        **{name: getattr(header, name) for name in ("temperature", "top_p", "top_k", "max_tokens")},
    }
    for name, value in told.items():
        given = getattr(profiling, name)
        if given not in (value, getattr(default, name)):
            refuse(name, given, f"is not what the samples say ({value}); leave it out")


def _identity(samples: Samples, prompting: Prompting | None) -> dict[str, Any]:
    header: SamplesHeader = samples.header
    return {
        "samples_of": header.model,
        "samples_sha256": samples.sha256,
        "prompts_sha256": header.prompts_sha256,
        "renderer_sha256": prompting.sha256 if prompting and samples.uses_tokenizer else None,
        "notes": header.notes,
    }
