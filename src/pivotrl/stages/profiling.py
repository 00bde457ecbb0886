"""Candidate turns -> profiles.jsonl."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pivotrl.evaluation.distance import score_demonstrations
from pivotrl.evaluation.divergence import can_score
from pivotrl.judging.guarded import Verification, VerificationOptions
from pivotrl.judging.lint import CheckOptions, require_checked
from pivotrl.options import options_dict
from pivotrl.plugins.describing import describe, own_code, spec_of
from pivotrl.plugins.shapes import require_sampler, require_verifier
from pivotrl.profiling import ProfileOptions, outcome_counts, profile, why_none_fits
from pivotrl.protocols import InputError, Sampler, Turn, Verifier, describe_policy
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.reading.alternatives import count_alternatives
from pivotrl.records import SampleGroup, SkippedTurn
from pivotrl.rollouts import continuation_turns, joined, prompt_tokens
from pivotrl.runs.files import RunFiles
from pivotrl.runs.replacing import move_aside
from pivotrl.runs.stage import Stage, require_same
from pivotrl.storage.record_files import RecordFile, read_records, sha256_of_json
from pivotrl.turns import TurnOptions, cut


def load_turns(directory: Path, options: TurnOptions) -> tuple[list[Turn], list[SkippedTurn]]:
    """Candidate turns of the training trajectories."""
    return cut(RunFiles(directory).trajectories(), options)


def profile_stage(
    directory: Path,
    *,
    sampler: Sampler,
    verifier: Verifier,
    turns: TurnOptions = TurnOptions(),
    profiling: ProfileOptions = ProfileOptions(),
    checking: CheckOptions = CheckOptions(),
    verification: VerificationOptions = VerificationOptions(),
    overwrite: bool = False,
    observer: Observer = SILENT,
) -> list[SampleGroup]:
    """Candidate turns -> ``profiles.jsonl`` (raw samples and verdicts), ``demonstrations.jsonl`` (how likely the sampler
    finds the demonstrated actions, if it can score actions) and ``skipped.jsonl``.

    Args:
        overwrite: move an earlier profile, and everything made from it, aside as soon as the new one can begin.
    """
    require_verifier(verifier)
    require_sampler(sampler)
    files = RunFiles(directory)
    candidates, skipped = cut(files.trajectories(), turns)
    settings = {**options_dict(turns), **options_dict(profiling), "verifier": describe(verifier)}
    inputs = {"trajectories.jsonl": files.sha256("trajectories.jsonl"), **own_code(verifier)}
    if not candidates:
        reasons = Counter(skip.reason for skip in skipped)
        raise InputError(
            f"no candidate turns in {directory}: {dict(reasons) or 'no assistant turns'}; choose another --domain or "
            "read other logs"
        )
    if not overwrite:
        require_same(directory, "profile", settings, inputs)
    # Checked before the stage begins: a stage that has begun would be tied to a verifier that may be refused here.
    report, _ = require_checked(directory, candidates, verifier, checking, observer, sampler, verification)
    inputs["policy"] = sha256_of_json(sampler.identity)
    if overwrite:
        move_aside(directory, "profile")
    limits = {**options_dict(checking), **options_dict(verification)}
    acting = describe_policy(sampler)
    with Stage(
        directory,
        "profile",
        {**settings, **limits},
        inputs,
        tuple(limits),
        acting,
        is_verified=True,
        plugins={"verifier": spec_of(verifier)},
        observer=observer,
    ) as stage:
        path = directory / "profiles.jsonl"
        if stage.done:
            return joined(read_records(path, SampleGroup))
        with Verification(verifier, verification, candidates, sampler) as guarded:
            groups, left_out = profile(candidates, sampler, guarded, path, profiling, observer)
        if not groups:
            raise InputError(
                f"none of the {len(candidates)} candidate turns can be sampled: "
                f"{why_none_fits(left_out, profiling.max_tokens)}"
            )
        skipped_file = RecordFile(directory / "skipped.jsonl", SkippedTurn)
        skipped_file.append([skip for skip in skipped + left_out if skip.turn_id not in skipped_file])
        if can_score(sampler):
            profiled = {group.turn_id for group in groups}
            demonstrated = [turn for turn in candidates if turn.id in profiled]
            batch = profiling.batch_turns
            score_demonstrations(sampler, demonstrated, directory / "demonstrations.jsonl", batch, observer)
        unshared, computed = prompt_tokens(groups)
        stage.finish(
            {
                "candidate_turns": len(candidates),
                "profiled_turns": len(groups),
                "skipped": dict(Counter(skip.reason for skip in skipped + left_out)),
                **count_alternatives({turn.trajectory.id: turn.trajectory for turn in candidates}.values()),
                **outcome_counts(groups),
                "prompt_tokens": {"unshared": unshared, "computed": computed},
            },
            num_rollout_turns=sum(len(group.completions_G) for group in groups)
            + continuation_turns(groups)
            + report.num_rollout_turns
            + guarded.num_rollout_turns,
        )
        return groups
