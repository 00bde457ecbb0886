"""The stages of a run on its directory: each reads files, writes files, and leaves a manifest beside them.

A stage that is complete with the same options and inputs is skipped; one that was interrupted goes on; one that
was made with other settings is refused.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from pivotrl.alternatives import count_alternatives, with_alternatives
from pivotrl.checking import CheckOptions, require_checked
from pivotrl.evaluation import (
    EvaluationOptions,
    evaluate_episodes,
    evaluate_retention,
    evaluate_turns,
)
from pivotrl.plugin_shapes import (
    make_checked,
    require_environments,
    require_policy,
    require_sampler,
    require_verifier,
)
from pivotrl.plugins import describe, source_sha256
from pivotrl.profiling import ProfileOptions, Progress, outcome_counts, profile, silent
from pivotrl.protocols import Environment, InputError, Policy, Sampler, Turn, Verifier
from pivotrl.records import SampleGroup, Selection, SkippedTurn, Trajectory
from pivotrl.rollouts import continuation_turns, prompt_tokens
from pivotrl.selection import SelectionOptions, require_pivots, select
from pivotrl.store import RecordFile, Stage, read_manifest, read_records, sha256_of_file, sha256_of_json
from pivotrl.training import TrainingOptions, options_dict, restore, train
from pivotrl.turns import TurnOptions, cut, draw_by_task
from pivotrl.verification import Verification, VerificationOptions

_OUTPUTS = {
    "read": (
        "trajectories.jsonl",
        "heldout.jsonl",
        "dropped.jsonl",
        "refused.jsonl",
        ".redaction_key",
        "check.json",
        "evaluations",
        "report.html",
        "report.json",
    ),
    "profile": ("profiles.jsonl", "skipped.jsonl"),
    "select": ("selection.jsonl",),
    "train": ("train", "evaluations/after.*", "report.html", "report.json"),
}
_NEXT = {"read": "profile", "profile": "select", "select": "train"}


def reset_stage(directory: Path, stage: str) -> None:
    """Remove what a stage wrote and everything made from it; what it was made from, and any other file, stays."""
    for pattern in (*_OUTPUTS.get(stage, (f"{stage}.*",)), f"{stage}.manifest.json"):
        for path in directory.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if stage in _NEXT:
        reset_stage(directory, _NEXT[stage])


def prepare_directory(directory: Path, resume: bool, overwrite: bool) -> None:
    """Refuse a directory that holds something unless told to go on or to start again.

    Only what a run writes is removed by ``overwrite``; any other file in the directory stays.

    Raises:
        InputError: the directory is not empty and neither flag is given, or it is no directory.
    """
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} is a file; give a directory")
    if not directory.exists() or not any(path.name != ".lock" for path in directory.iterdir()):
        directory.mkdir(parents=True, exist_ok=True)
    elif overwrite:
        if not (directory / "read.manifest.json").is_file():
            raise InputError(f"{directory} holds files but no pivotrl run; choose another directory")
        reset_stage(directory, "read")
    elif not resume:
        raise InputError(f"{directory} is not empty; add --resume to go on, or --overwrite to start again")


def load_trajectories(path: Path) -> list[Trajectory]:
    """Those of a file, each turn with the other actions that are known to be as right there."""
    return with_alternatives(read_records(path, Trajectory))


def load_turns(directory: Path, options: TurnOptions) -> tuple[list[Turn], list[SkippedTurn]]:
    """Candidate turns of the training trajectories."""
    return cut(load_trajectories(directory / "trajectories.jsonl"), options)


def _own_code(verifier: Verifier) -> dict[str, str]:
    """For the inputs of a manifest: nothing for the verifiers of this package."""
    found = source_sha256(verifier)
    return {"verifier code": found} if found else {}


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
        overwrite: forget an earlier profile, once the verifier is not refused.
    """
    require_verifier(verifier)
    require_sampler(sampler)
    settings = {**options_dict(turn_options), **options_dict(options), "verifier": describe(verifier)}
    inputs = {
        "trajectories.jsonl": sha256_of_file(directory / "trajectories.jsonl"),
        "policy": sha256_of_json(sampler.identity),
        **_own_code(verifier),
    }
    turns, skipped = load_turns(directory, turn_options)
    if not turns:
        reasons = Counter(skip.reason for skip in skipped)
        raise InputError(f"no candidate turns in {directory}: {dict(reasons) or 'there is no assistant turn'}")
    # Before the stage begins: one that has begun would hold on to the verifier that is refused here.
    report, _ = require_checked(directory, turns, verifier, checking, progress, sampler, verification)
    if overwrite:
        reset_stage(directory, "profile")
    with Stage(directory, "profile", settings, inputs) as stage:
        path = directory / "profiles.jsonl"
        if stage.done:
            return read_records(path, SampleGroup)
        with Verification(verifier, verification, turns, sampler) as guarded:
            groups, left_out = profile(turns, sampler, guarded, path, options, progress)
        if not groups:
            raise InputError(
                f"none of the {len(turns)} candidate turns can be sampled: "
                f"{dict(Counter(skip.reason for skip in left_out))}; use a model with a longer context than they and "
                f"--max-tokens {options.max_tokens} need, and with a chat template that can write them"
            )
        skipped_file = RecordFile(directory / "skipped.jsonl", SkippedTurn, key=lambda skip: skip.turn_id)
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


def select_stage(directory: Path, options: SelectionOptions = SelectionOptions()) -> list[Selection]:
    """``profiles.jsonl`` -> ``selection.jsonl``: every profiled turn with its reason.

    Raises:
        InputError: nothing was selected; the message says why by its counts.
    """
    profiles = directory / "profiles.jsonl"
    groups = read_records(profiles, SampleGroup)
    with Stage(directory, "select", options_dict(options), {"profiles.jsonl": sha256_of_file(profiles)}) as stage:
        selections = select(groups, options)
        if not stage.done:
            file = RecordFile(directory / "selection.jsonl", Selection, key=lambda row: row.turn_id)
            file.append([row for row in selections if row.turn_id not in file])
            require_pivots(selections)
            stage.finish(
                {
                    "pivots": sum(row.selected for row in selections),
                    "reasons": dict(Counter(r.reason for r in selections)),
                }
            )
        return selections


def selected_turns(directory: Path) -> list[Turn]:
    """The pivots, as turns, in the order of the selection."""
    trajectories = {t.id: t for t in load_trajectories(directory / "trajectories.jsonl")}
    chosen = [row.turn_id for row in read_records(directory / "selection.jsonl", Selection) if row.selected]
    places = [turn_id.rpartition("#") for turn_id in chosen]
    return [Turn(trajectories[trajectory_id], int(index)) for trajectory_id, _, index in places]


def train_stage(
    directory: Path,
    policy: Policy,
    verifier: Verifier,
    options: TrainingOptions = TrainingOptions(),
    progress: Progress = silent,
    checking: CheckOptions = CheckOptions(),
    verification: VerificationOptions = VerificationOptions(),
    overwrite: bool = False,
) -> None:
    """Pivots -> ``train/`` with groups, metrics, checkpoints and ``train/policy``, the weights to use elsewhere.

    Afterwards ``policy`` holds the trained weights, also when the stage was complete already.

    Args:
        overwrite: forget an earlier training, once the verifier is not refused.
    """
    require_verifier(verifier)
    require_policy(policy)
    require_pivots(read_records(directory / "selection.jsonl", Selection))
    turns = selected_turns(directory)
    settings = {**options_dict(options), "verifier": describe(verifier), **policy.training_identity}
    inputs = {
        "selection.jsonl": sha256_of_file(directory / "selection.jsonl"),
        "policy": sha256_of_json(policy.identity),
        **_own_code(verifier),
    }
    verifies, checked = options.method != "sft", 0
    if verifies:
        report, is_new = require_checked(
            directory, turns, verifier, checking, progress, policy, verification, same_turns=False
        )
        checked = report.num_rollout_turns if is_new else 0
    if overwrite:
        reset_stage(directory, "train")
    with Stage(directory, "train", settings, inputs) as stage:
        canaries = turns if verifies and not stage.done else ()
        with Verification(verifier, verification, canaries, policy) as guarded:
            rows = train(policy, turns, guarded, directory / "train", options, progress)
        if stage.done:
            return
        policy.export(directory / "train" / "policy")
        bought = sum(
            row.metrics.get(name, 0.0) for row in rows for name in ("samples/total", "samples/continuation_turns")
        )
        skipped = sum(row.metrics.get("update/skipped", 0.0) for row in rows)
        stage.finish(
            {"pivots": len(turns), "steps": len(rows), "skipped_updates": int(skipped)},
            num_rollout_turns=int(bought) + checked + guarded.num_rollout_turns,
        )


def load_trained(directory: Path, policy: Policy) -> None:
    """Give the policy the weights that training ended with.

    Raises:
        InputError: training is not finished.
    """
    manifest = directory / "train.manifest.json"
    if not manifest.is_file() or read_manifest(manifest).status != "complete":
        raise InputError(f"{directory} holds no finished training; run `pivotrl train {directory}` first")
    restore(policy, directory / "train" / "checkpoints")


def evaluate_stage(
    directory: Path,
    name: str,
    policy: Policy,
    verifier: Verifier,
    turn_options: TurnOptions = TurnOptions(),
    options: EvaluationOptions = EvaluationOptions(),
    environments: Callable[[], Sequence[Environment]] | None = None,
    retention: Sequence[dict[str, str]] = (),
    progress: Progress = silent,
    verification: VerificationOptions = VerificationOptions(),
) -> None:
    """Held-out turns, episodes and retention texts -> ``evaluations/<name>.*.jsonl``."""
    require_verifier(verifier)
    require_policy(policy)
    heldout_path = directory / "heldout.jsonl"
    trajectories = load_trajectories(heldout_path) if heldout_path.is_file() else []
    settings = {
        **options_dict(options),
        "verifier": describe(verifier),
        "environments": describe(environments) if environments else None,
    }
    inputs = {
        "heldout.jsonl": sha256_of_file(heldout_path) if heldout_path.is_file() else "",
        "policy": sha256_of_json(policy.identity),
        "retention": sha256_of_json(list(retention)),
        **_own_code(verifier),
    }
    trained = directory / "train" / "metrics.jsonl"
    if name != "before" and trained.is_file():
        inputs["train/metrics.jsonl"] = sha256_of_file(trained)
    folder = directory / "evaluations"
    with Stage(folder, name, settings, inputs) as stage:
        if stage.done:
            return
        if environments:
            require_environments(environments)
        candidates, _ = cut(trajectories, TurnOptions(domain=turn_options.domain))
        turns = draw_by_task(candidates, None, options.heldout_turns, options.eval_seed)
        with Verification(verifier, verification, turns, policy) as guarded:
            turn_results = evaluate_turns(policy, turns, guarded, folder / f"{name}.turns.jsonl", options, progress)
        episodes = (
            evaluate_episodes(policy, make_checked(environments), folder / f"{name}.episodes.jsonl", options, progress)
            if environments
            else []
        )
        texts = evaluate_retention(policy, retention, folder / f"{name}.retention.jsonl", progress) if retention else []
        stage.finish(
            {
                "turns": len(turn_results),
                "turns_too_long": len(turns) - len(turn_results),
                "episodes": len(episodes),
                "retention_texts": len(texts),
            },
            num_rollout_turns=sum(r.num_samples + r.num_continuation_turns for r in turn_results)
            + sum(episode.num_turns for episode in episodes)
            + guarded.num_rollout_turns,
        )
