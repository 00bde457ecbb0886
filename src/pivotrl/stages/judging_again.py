"""The samples of the run's profile, judged again by another verifier -> profiles.jsonl. Never samples."""

from __future__ import annotations

import warnings
from pathlib import Path

from pivotrl.judging.guarded import VerificationOptions, needs_policy
from pivotrl.judging.lint import CheckOptions, require_checked
from pivotrl.plugins.describing import describe, own_code
from pivotrl.plugins.shapes import require_verifier
from pivotrl.protocols import InputError, Notice, Sampler, Verifier
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.records import Manifest, SampleGroup
from pivotrl.rollouts import joined
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import REPLACED
from pivotrl.runs.manifest import find_manifest, verify_outputs
from pivotrl.runs.replacing import dependents, move_aside
from pivotrl.stages.judging import FILE, STAGE, Judging, judged
from pivotrl.storage.record_files import read_records, sha256_of_file, sha256_of_json


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
    old = find_manifest(directory, STAGE)
    if old is not None and old.status == "complete" and _judges_alike(old, verifier):
        warnings.warn(f"{directory / FILE} was judged by {describe(verifier)} already", Notice, stacklevel=2)
        return RunFiles(directory).profiles()
    folder = _source(directory, old)
    if folder is None:
        made = RunFiles(directory).finished(STAGE)
        users = [name for name in dependents(directory, STAGE) if not name.startswith("select")]
        if users and not overwrite:
            raise InputError(
                f"made from the verdicts of {made.options['verifier']}: {', '.join(users)}. Add --overwrite to move "
                f"them to {directory / REPLACED} with the old profile"
            )
    else:
        made = _moved_manifest(folder)
    _require_policy_of(made, verifier, policy)
    groups = {group.turn_id: group for group in joined(read_records((folder or directory) / FILE, SampleGroup))}
    turns = RunFiles(directory).turns(groups)
    require_checked(directory, turns, verifier, checking, observer, policy, verification)
    if folder is None:
        folder = move_aside(directory, STAGE)
        assert folder is not None
    source = folder / FILE
    place = source.relative_to(directory).as_posix()
    settings = {name: value for name, value in made.options.items() if name != "samples"}
    settings |= {
        "verifier": describe(verifier),
        "judge_again": True,
        "judged_before_by": made.options["verifier"],
        "samples_from": place,
    }
    judging = Judging(
        turns=turns,
        settings=settings,
        inputs={"policy": made.inputs["policy"], place: sha256_of_file(source)},
        acting=made.policy,
        counts={name: count for name, count in made.counts.items() if name != "expected_f1"},
        num_bought=made.num_rollout_turns,
        copied_from=folder,
    )
    return judged(directory, groups, judging, verifier, checking, verification, policy, False, observer)


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
    made = find_manifest(folder, STAGE)
    if made is None:
        raise InputError(f"{folder} no longer holds the profile that is judged again; restore it")
    verify_outputs(folder, STAGE, made)
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
