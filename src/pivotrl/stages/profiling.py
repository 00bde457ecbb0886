"""Candidate turns -> profiles.jsonl."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pivotrl.evaluation.distance import score_demonstrations
from pivotrl.evaluation.divergence import can_score
from pivotrl.judging.guarded import Verification, VerificationOptions, needs_policy
from pivotrl.judging.lint import CheckOptions, require_checked
from pivotrl.options import options_dict
from pivotrl.plugins.describing import describe, own_code, spec_of
from pivotrl.plugins.shapes import require_sampler, require_verifier
from pivotrl.profiling import ProfileOptions, outcome_counts, profile, why_none_fits
from pivotrl.profiling.adaptive import evidence_of
from pivotrl.protocols import InputError, Sampler, Turn, Verifier, describe_policy
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.reading.alternatives import count_alternatives
from pivotrl.records import SampleGroup, SkippedTurn
from pivotrl.rollouts import joined, misfit, prompt_tokens, rollout_turns
from pivotrl.runs.files import RunFiles
from pivotrl.runs.replacing import move_aside
from pivotrl.runs.stage import Stage, require_same
from pivotrl.selection.stopping import expected_f1
from pivotrl.stages.pilot_samples import NUM_GROUPS, pilot_samples
from pivotrl.storage.record_files import RecordFile, read_records, sha256_of_json
from pivotrl.turns import TurnOptions, cut

_LIKELY = 0.05
"""A demonstrated action below this probability says nothing that a few samples do not say."""


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
    """Candidate turns -> ``profiles.jsonl`` (raw samples and verdicts), ``demonstrations.jsonl`` (how likely the
    sampler finds the demonstrated actions, if it can score actions) and ``skipped.jsonl``.

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
    given = pilot_samples(directory, {**settings, **limits}, inputs)
    if given:
        limits[NUM_GROUPS] = len(given)
    acting = describe_policy(sampler)
    with Stage(
        directory,
        "profile",
        {**settings, **limits},
        inputs,
        (*limits, NUM_GROUPS),
        acting,
        is_verified=True,
        plugins={"verifier": spec_of(verifier)},
        observer=observer,
    ) as stage:
        path = directory / "profiles.jsonl"
        if stage.done:
            return joined(read_records(path, SampleGroup))
        with Verification(verifier, verification, candidates, sampler) as guarded:
            at_least = _known_pass_rates(directory, candidates, sampler, guarded, profiling, observer)
            groups, left_out = profile(candidates, sampler, guarded, path, profiling, observer, at_least, given)
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
                **({"samples_from_pilot": sum(group.num_taken for group in groups)} if given else {}),
                "skipped": dict(Counter(skip.reason for skip in skipped + left_out)),
                **count_alternatives({turn.trajectory.id: turn.trajectory for turn in candidates}.values()),
                **outcome_counts(groups),
                **_adaptive_counts(groups, left_out, profiling, at_least),
                "prompt_tokens": {"unshared": unshared, "computed": computed},
            },
            num_rollout_turns=rollout_turns(groups) + report.num_rollout_turns + guarded.num_rollout_turns,
        )
        return groups


def _known_pass_rates(
    directory: Path,
    candidates: Sequence[Turn],
    sampler: Sampler,
    verifier: Verification,
    profiling: ProfileOptions,
    observer: Observer,
) -> dict[str, float]:
    """For an adaptive profile: by turn id, the probability of a demonstrated action that the verifier accepts. The pass
    rate is at least as large. Empty where probabilities are unknown or are not those of the sampled distribution."""
    is_whole = (profiling.temperature, profiling.top_p, profiling.top_k) == (1.0, 1.0, None)
    if profiling.adaptive is None or not can_score(sampler) or not is_whole or needs_policy(verifier.wrapped):
        return {}
    fitting = [turn for turn in candidates if misfit(sampler, turn, profiling.max_tokens) is None]
    scores = score_demonstrations(sampler, fitting, directory / "demonstrations.jsonl", profiling.batch_turns, observer)
    probabilities = {score.turn_id: math.exp(-score.nll) for score in scores if score.nll is not None}
    likely = [turn for turn in fitting if probabilities.get(turn.id, 0.0) >= _LIKELY]
    verdicts = verifier.judge_all([(turn, turn.expected_action) for turn in likely])
    return {
        turn.id: probabilities[turn.id] * verdict.reward
        for turn, verdict in zip(likely, verdicts, strict=True)
        if verdict.reward is not None
    }


def _adaptive_counts(
    groups: Sequence[SampleGroup],
    left_out: Sequence[SkippedTurn],
    profiling: ProfileOptions,
    at_least: Mapping[str, float],
) -> dict[str, Any]:
    """What an adaptive profile has sampled, against K samples at each turn that it could have sampled."""
    if profiling.adaptive is None:
        return {}
    evidence_N = [evidence_of(group, at_least.get(group.turn_id, 0.0)) for group in groups]
    spared = sum(skip.reason in ("too_likely", "not_needed") for skip in left_out)
    f1 = expected_f1(evidence_N, profiling.num_samples, profiling.max_mean)
    numbers = Counter(len(group.completions_G) for group in groups)
    return {
        "samples": sum(len(group.completions_G) for group in groups),
        "samples_at_k": profiling.num_samples * (len(groups) + spared),
        "expected_f1": None if f1 is None else round(f1, 3),
        "samples_per_turn": {str(number): count for number, count in sorted(numbers.items())},
    }
