"""Samples that exist already -> profiles.jsonl: samples made elsewhere, or those of the profile judged again."""

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
from pivotrl.records import Manifest, SampleGroup, SkippedTurn
from pivotrl.rollouts import SampleFaults, continuation_turns, joined
from pivotrl.rows.prompts import Prompting
from pivotrl.rows.samples import Samples, SamplesHeader, read_samples
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import REPLACED
from pivotrl.runs.manifest import find_manifest, verify_outputs
from pivotrl.runs.replacing import dependents, move_aside
from pivotrl.runs.stage import Stage, require_same
from pivotrl.storage.record_files import RecordFile, counted, read_records, sha256_of_file, sha256_of_json, write_file
from pivotrl.turns import TurnOptions, cut

_NUM_LISTED = 5
_STAGE, _FILE = "profile", "profiles.jsonl"
_COPIED = ("demonstrations.jsonl", "skipped.jsonl")
"""Files of a profile that do not depend on the verifier."""


@dataclass(frozen=True)
class _Judging:
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
    judging = _Judging(
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
    groups = _judged(directory, samples.groups, judging, verifier, checking, verification, None, overwrite, observer)
    if missing:
        listed = ", ".join(missing[:_NUM_LISTED]) + (", ..." if len(missing) > _NUM_LISTED else "")
        warnings.warn(
            f"{len(missing)} of {counted(len(candidates), 'candidate turn')} have no samples: {listed}; "
            f"{directory / 'skipped.jsonl'} lists them",
            Notice,
            stacklevel=2,
        )
    return groups


def judge_again_stage(
    directory: Path,
    *,
    verifier: Verifier,
    policy: Sampler | None = None,
    checking: CheckOptions = CheckOptions(),
    verification: VerificationOptions = VerificationOptions(),
    overwrite: bool = False,
    observer: Observer = SILENT,
) -> list[SampleGroup]:
    """Judge the samples of the run's profile by another verifier; nothing is sampled.

    The profile and its selections move to ``replaced/``: the old verdicts are kept and never mixed with the new ones. A
    profile that this verifier has judged already stays as it is.

    Args:
        policy: for a verifier that plays on; it must be the policy that made the samples.
        overwrite: also move aside trainings and evaluations that were made from the old verdicts.

    Raises:
        InputError: there is no finished profile, or a training was made from it and ``overwrite`` is False.
    """
    require_verifier(verifier)
    old = find_manifest(directory, _STAGE)
    if old is not None and old.status == "complete" and _judges_alike(old, verifier):
        warnings.warn(f"{directory / _FILE} was judged by {describe(verifier)} already", Notice, stacklevel=2)
        return RunFiles(directory).profiles()
    folder = _source(directory, old)
    if folder is None:
        made = RunFiles(directory).finished(_STAGE)
        users = [name for name in dependents(directory, _STAGE) if not name.startswith("select")]
        if users and not overwrite:
            raise InputError(
                f"made from the verdicts of {made.options['verifier']}: {', '.join(users)}. Add --overwrite to move "
                f"them to {directory / REPLACED} with the old profile"
            )
    else:
        made = _moved_manifest(folder)
    _require_policy_of(made, verifier, policy)
    groups = {group.turn_id: group for group in joined(read_records((folder or directory) / _FILE, SampleGroup))}
    turns = RunFiles(directory).turns(groups)
    require_checked(directory, turns, verifier, checking, observer, policy, verification)
    if folder is None:
        folder = move_aside(directory, _STAGE)
        assert folder is not None
    source = folder / _FILE
    place = source.relative_to(directory).as_posix()
    settings = {name: value for name, value in made.options.items() if name != "samples"}
    settings |= {
        "verifier": describe(verifier),
        "judge_again": True,
        "judged_before_by": made.options["verifier"],
        "samples_from": place,
    }
    judging = _Judging(
        turns=turns,
        settings=settings,
        inputs={"policy": made.inputs["policy"], place: sha256_of_file(source)},
        acting=made.policy,
        counts=made.counts,
        num_bought=made.num_rollout_turns,
        copied_from=folder,
    )
    return _judged(directory, groups, judging, verifier, checking, verification, policy, False, observer)


def _judged(
    directory: Path,
    samples: Mapping[str, SampleGroup],
    judging: _Judging,
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
        require_same(directory, _STAGE, known, inputs)
    report, _ = require_checked(directory, judging.turns, verifier, checking, observer, policy, verification)
    if overwrite:
        move_aside(directory, _STAGE)
    with Stage(
        directory,
        _STAGE,
        {**judging.settings, **limits},
        inputs,
        told,
        judging.acting,
        is_verified=True,
        plugins={"verifier": spec_of(verifier)},
        observer=observer,
    ) as stage:
        if stage.done:
            return joined(read_records(directory / _FILE, SampleGroup))
        if judging.copied_from is not None:
            for path in (judging.copied_from / name for name in _COPIED):
                if path.is_file():
                    write_file(directory / path.name, path.read_bytes())
        skipped = RecordFile(directory / "skipped.jsonl", SkippedTurn)
        skipped.append([skip for skip in judging.skipped if skip.turn_id not in skipped])
        batch_turns = judging.settings["batch_turns"]
        with Verification(verifier, verification, judging.turns, policy) as guarded:
            groups = judge_samples(judging.turns, samples, guarded, directory / _FILE, batch_turns, observer)
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


def _judges_alike(made: Manifest, verifier: Verifier) -> bool:
    code = "verifier code"
    alike = made.options.get("verifier") == describe(verifier)
    return alike and made.inputs.get(code) == own_code(verifier).get(code)


def _source(directory: Path, manifest: Manifest | None) -> Path | None:
    """The folder with the samples, if they have been moved aside; None if they are still the run's profile."""
    if manifest is not None:
        place = manifest.options.get("samples_from")
        return (directory / place).parent if manifest.status == "running" and place else None
    # A kill between the move and the new manifest leaves only the moved profile.
    moved = sorted((directory / REPLACED).glob("*/profile.manifest.json"), reverse=True)
    return moved[0].parent if moved and _moved_manifest(moved[0].parent).status == "complete" else None


def _moved_manifest(folder: Path) -> Manifest:
    """Raises:
    InputError: the moved profile is missing or damaged.
    """
    made = find_manifest(folder, _STAGE)
    if made is None:
        raise InputError(f"{folder} no longer holds the profile that is judged again; restore it")
    verify_outputs(folder, _STAGE, made)
    return made


def _require_policy_of(made: Manifest, verifier: Verifier, policy: Sampler | None) -> None:
    """
    Raises:
        InputError: the verifier plays on with another policy than the one that made the samples.
    """
    if not needs_policy(verifier):
        return
    if policy is None or sha256_of_json(policy.identity) != made.inputs["policy"]:
        raise InputError(
            f"the verifier {describe(verifier)} plays on with the policy, but this is not the policy that made the "
            "samples; name that one with --policy, --model and --adapter"
        )
