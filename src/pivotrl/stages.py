"""The stages of a run on its directory: each reads files, writes files, and leaves a manifest beside them.

A stage that is complete with the same options and inputs is skipped; one that was interrupted goes on; one that
was made with other settings is refused. Files are checked first, the verifier next, and the policy is touched last:
a model takes long to load.
"""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

from pivotrl.alternatives import count_alternatives
from pivotrl.checking import CheckOptions, require_checked
from pivotrl.plugin_shapes import require_policy, require_sampler, require_verifier
from pivotrl.plugins import describe, own_code
from pivotrl.profiling import ProfileOptions, Progress, outcome_counts, profile, silent, why_none_fits
from pivotrl.protocols import InputError, Notice, Policy, Sampler, Turn, Verifier, describe_policy
from pivotrl.records import SampleGroup, Selection, SkippedTurn
from pivotrl.rollouts import continuation_turns, prompt_tokens
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import outputs, selection_stage, training_stage
from pivotrl.runs.manifest import find_manifest, manifest_path
from pivotrl.runs.replacing import dependents, move_aside
from pivotrl.runs.stage import Stage, require_same
from pivotrl.selection import SelectionOptions, require_pivots, select
from pivotrl.store import RecordFile, encode_line, read_records, sha256_of_json, write_file
from pivotrl.training import TrainingOptions, options_dict, train
from pivotrl.training_options import usual_rate, with_learning_rate
from pivotrl.turns import TurnOptions, cut
from pivotrl.verification import Verification, VerificationOptions


def load_turns(directory: Path, options: TurnOptions) -> tuple[list[Turn], list[SkippedTurn]]:
    """Candidate turns of the training trajectories."""
    return cut(RunFiles(directory).trajectories(), options)


def profile_stage(
    directory: Path,
    sampler: Sampler,
    verifier: Verifier,
    turn_options: TurnOptions = TurnOptions(),
    options: ProfileOptions = ProfileOptions(),
    progress: Progress = silent,
    checking: CheckOptions = CheckOptions(),
    verification: VerificationOptions = VerificationOptions(),
    overwrite: bool = False,
) -> list[SampleGroup]:
    """Candidate turns -> ``profiles.jsonl`` (raw samples and verdicts) and ``skipped.jsonl``.

    Args:
        overwrite: move an earlier profile, and what was made from it, aside: once the new one can begin.
    """
    require_verifier(verifier)
    require_sampler(sampler)
    files = RunFiles(directory)
    turns, skipped = cut(files.trajectories(), turn_options)
    settings = {**options_dict(turn_options), **options_dict(options), "verifier": describe(verifier)}
    inputs = {"trajectories.jsonl": files.sha256("trajectories.jsonl"), **own_code(verifier)}
    if not turns:
        reasons = Counter(skip.reason for skip in skipped)
        raise InputError(
            f"no candidate turns in {directory}: {dict(reasons) or 'there is no assistant turn'}; choose another "
            "--domain, or read other logs"
        )
    if not overwrite:
        require_same(directory, "profile", settings, inputs)
    # Before the stage begins: one that has begun would hold on to the verifier that is refused here.
    report, _ = require_checked(directory, turns, verifier, checking, progress, sampler, verification)
    inputs["policy"] = sha256_of_json(sampler.identity)
    if overwrite:
        move_aside(directory, "profile")
    limits = {**options_dict(checking), **options_dict(verification)}
    acting = describe_policy(sampler)
    with Stage(directory, "profile", {**settings, **limits}, inputs, tuple(limits), acting, is_verified=True) as stage:
        path = directory / "profiles.jsonl"
        if stage.done:
            return read_records(path, SampleGroup)
        with Verification(verifier, verification, turns, sampler) as guarded:
            groups, left_out = profile(turns, sampler, guarded, path, options, progress)
        if not groups:
            raise InputError(
                f"none of the {len(turns)} candidate turns can be sampled: "
                f"{why_none_fits(left_out, options.max_tokens)}"
            )
        skipped_file = RecordFile(directory / "skipped.jsonl", SkippedTurn)
        skipped_file.append([skip for skip in skipped + left_out if skip.turn_id not in skipped_file])
        unshared, computed = prompt_tokens(groups)
        stage.finish(
            {
                "candidate_turns": len(turns),
                "profiled_turns": len(groups),
                "skipped": dict(Counter(skip.reason for skip in skipped + left_out)),
                **count_alternatives({turn.trajectory.id: turn.trajectory for turn in turns}.values()),
                **outcome_counts(groups),
                "prompt_tokens": {"unshared": unshared, "computed": computed},
            },
            num_rollout_turns=sum(len(group.completions_G) for group in groups)
            + continuation_turns(groups)
            + report.num_rollout_turns
            + guarded.num_rollout_turns,
        )
        return groups


def select_stage(
    directory: Path,
    options: SelectionOptions = SelectionOptions(),
    name: str | None = None,
    overwrite: bool = False,
    repairs: bool = True,
) -> list[Selection]:
    """``profiles.jsonl`` -> ``selection.jsonl``: every profiled turn with its reason.

    A selection costs nothing: as long as nothing was trained from it, it is made again with whatever options.

    Args:
        name: of a selection beside that of the whole run, ``selections/<name>.jsonl``.
        overwrite: move a selection with what was trained from it aside.
        repairs: write a damaged selection that something was trained from again, as it was.

    Raises:
        InputError: another selection stands there and something was trained from it, or it is damaged.
        NoPivots: nothing was selected; the message says why by its counts.
    """
    files, stage_name = RunFiles(directory), selection_stage(name)
    path = directory / outputs(stage_name)[0]
    selections = select(files.profiles(), options)
    settings, inputs = options_dict(options), {"profiles.jsonl": files.sha256("profiles.jsonl")}
    users, data = dependents(directory, stage_name), b"".join(map(encode_line, selections))
    if overwrite:
        move_aside(directory, stage_name)
    elif users:
        require_same(directory, stage_name, settings, inputs, used_by=users, verifies=not repairs)
        has_stood = find_manifest(directory, stage_name) is not None
        if has_stood and (not path.is_file() or path.read_bytes() != data):
            write_file(path, data)
            warnings.warn(f"{path} was damaged and is written again as it was", Notice, stacklevel=2)
    elif not _stands(directory, stage_name, settings, inputs):
        path.unlink(missing_ok=True)
        manifest_path(directory, stage_name).unlink(missing_ok=True)
    with Stage(directory, stage_name, settings, inputs) as stage:
        if not stage.done:
            write_file(path, data)
            reasons = dict(Counter(row.reason for row in selections))
            stage.finish({"pivots": sum(row.selected for row in selections), "reasons": reasons})
    require_pivots(selections)
    return selections


def _stands(directory: Path, stage: str, settings: dict[str, object], inputs: dict[str, str]) -> bool:
    """Whether the stage is finished with these settings, and its files are whole."""
    try:
        require_same(directory, stage, settings, inputs)
        manifest = find_manifest(directory, stage)
    except InputError:
        return False
    return manifest is not None and manifest.status == "complete"


def train_stage(
    directory: Path,
    policy: Policy,
    verifier: Verifier,
    options: TrainingOptions = TrainingOptions(),
    progress: Progress = silent,
    checking: CheckOptions = CheckOptions(),
    verification: VerificationOptions = VerificationOptions(),
    overwrite: bool = False,
    name: str | None = None,
    selection: str | None = None,
) -> None:
    """Pivots -> ``train/`` with groups, metrics, checkpoints and ``train/policy``, the weights to use elsewhere.

    Afterwards ``policy`` holds the trained weights, also when the stage was complete already.

    Args:
        overwrite: move an earlier training aside, once the new one can begin.
        name: of a training beside that of the whole run, ``trainings/<name>/``.
        selection: name of the selection to train on; None is that of the whole run.
    """
    require_verifier(verifier)
    require_policy(policy)
    files, stage_name = RunFiles(directory), training_stage(name)
    rows = files.selections(selection)
    require_pivots(rows)
    turns = files.turns(row.turn_id for row in rows if row.selected)
    settings = {**options_dict(options), "verifier": describe(verifier), "selection": selection}
    if options.learning_rate is None:
        del settings["learning_rate"]  # the policy knows it, and a policy is loaded last
    read = (outputs(selection_stage(selection))[0], "trajectories.jsonl")
    inputs = {**{file: files.sha256(file) for file in read}, **own_code(verifier)}
    if not overwrite:
        require_same(directory, stage_name, settings, inputs)
    verifies, checked = options.method != "sft", 0
    if verifies:
        report, is_new = require_checked(
            directory, turns, verifier, checking, progress, policy, verification, same_turns=False
        )
        checked = report.num_rollout_turns if is_new else 0
    options = with_learning_rate(options, policy)
    settings |= {**options_dict(options), **policy.training_identity}
    inputs["policy"] = sha256_of_json(policy.identity)
    if overwrite:
        move_aside(directory, stage_name)
    limits = {**options_dict(checking), **options_dict(verification)}
    acting = describe_policy(policy)
    with Stage(directory, stage_name, {**settings, **limits}, inputs, tuple(limits), acting, is_verified=True) as stage:
        canaries = turns if verifies and not stage.done else ()
        with Verification(verifier, verification, canaries, policy) as guarded:
            steps = train(policy, turns, guarded, directory / stage_name, options, progress)
        if stage.done:
            return
        policy.export(directory / stage_name / "policy")
        paid = ("samples/total", "samples/continuation_turns")
        bought = sum(step.metrics.get(metric, 0.0) for step in steps for metric in paid)
        skipped = sum(step.metrics.get("update/skipped", 0.0) for step in steps)
        stage.finish(
            {
                "pivots": len(turns),
                "steps": len(steps),
                "skipped_updates": int(skipped),
                "usual_learning_rate": usual_rate(options, policy),
            },
            num_rollout_turns=int(bought) + checked + guarded.num_rollout_turns,
        )
