"""Pivots -> a trained policy."""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pivotrl.judging.guarded import Verification, VerificationOptions
from pivotrl.judging.lint import CheckOptions, require_checked
from pivotrl.options import options_dict
from pivotrl.plugins.describing import describe, own_code, spec_of
from pivotrl.plugins.environments import describe_environments, make_checked
from pivotrl.plugins.shapes import require_policy, require_verifier
from pivotrl.profiling import why_none_fits
from pivotrl.protocols import (
    Environments,
    InputError,
    MakeEnvironments,
    Notice,
    Policy,
    Turn,
    Verifier,
    describe_policy,
)
from pivotrl.protocols.observing import SILENT, Observer, at_work
from pivotrl.records import Label
from pivotrl.rollouts import misfit, turns_bought
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import training_stage
from pivotrl.runs.manifest import find_manifest
from pivotrl.runs.replacing import move_aside, move_results_aside
from pivotrl.runs.stage import CONTINUED, Stage, reopen, require_same
from pivotrl.selection import require_pivots
from pivotrl.stages.profile_identity import Difference, Kind, profile_differences, refuse_profile
from pivotrl.storage.record_files import sha256_of_json
from pivotrl.training import Method, TrainingOptions, needs_pivots, train
from pivotrl.training_options import guard_rails, usual_rate, with_policy_defaults
from pivotrl.turns import TurnOptions, cut

_SHOWN_FACTS = 3
_MAY_CHANGE = ("keep_checkpoints", "sample_ahead", "max_lag", *guard_rails.OPTIONS)
"""Options that may differ when a training continues: they do not change what is learned from given samples, and each
sample says which weights drew it."""


def train_stage(
    directory: Path,
    *,
    policy: Policy,
    verifier: Verifier,
    training: TrainingOptions = TrainingOptions(),
    checking: CheckOptions = CheckOptions(),
    verification: VerificationOptions = VerificationOptions(),
    overwrite: bool = False,
    name: str | None = None,
    selection: str | None = None,
    environments: MakeEnvironments | Mapping[str, MakeEnvironments] | None = None,
    turns: TurnOptions = TurnOptions(),
    profile_may_differ_in: Collection[Kind] = (),
    observer: Observer = SILENT,
) -> None:
    """Pivots -> ``train/`` with groups, metrics, checkpoints and ``train/policy``, the weights to use elsewhere.

    Afterwards ``policy`` holds the trained weights, even if the stage was already complete.

    Args:
        training: ``num_steps`` above those of a training with a constant rate continue it: it ends as if it had been
            begun with that many. Evaluations of its end are moved aside.
        overwrite: move an earlier training aside as soon as the new one can begin.
        name: of a training other than the run's, ``trainings/<name>/``.
        selection: name of the selection to train on; None is the run's selection.
        environments: for a method that plays; such a method needs no selection. If it verifies, too, the verifier is
            tried on the demonstrations of the logs first.
        turns: the candidates of a method that needs no pivots and is given no selection.
        profile_may_differ_in: what the run's profile may differ in from this training; the manifest notes what does.

    Raises:
        InputError: the profile differs in anything else (:mod:`pivotrl.stages.profile_identity`).
    """
    require_verifier(verifier)
    require_policy(policy)
    files, stage_name = RunFiles(directory), training_stage(name)
    method, chosen, known, read = training.load_method(), list[Turn](), list[Turn](), tuple[str, ...]()
    candidates, labels = dict[str, object](), list[Label]()
    made = _require_environments(method, environments, training.group_size)
    if needs_pivots(method) or (selection is not None and not method.plays):
        rows = files.selections(selection)
        require_pivots(rows)
        labels = files.labels(selection)
        chosen = known = files.turns((row.turn_id for row in rows if row.selected), labels)
        read = (*files.selection_files(selection), "trajectories.jsonl")
    elif not method.plays:
        chosen = known = cut(files.trajectories(), turns)[0]
        candidates, read = options_dict(turns), ("trajectories.jsonl",)
    elif method.verifies:
        known, read = cut(files.trajectories())[0], ("trajectories.jsonl",)
    settings = {
        **options_dict(training),
        **candidates,
        "verifier": describe(verifier),
        "selection": selection,
        "train_environments": describe_environments(environments),
    }
    if training.learning_rate is None:
        del settings["learning_rate"]  # the policy sets it, and the policy is loaded last
    if training.importance_cap is None:
        del settings["importance_cap"]
    inputs = {**{file: files.sha256(file) for file in read}, **own_code(verifier)}
    keeping = {name: settings.pop(name) for name in _MAY_CHANGE}
    was = None if overwrite else _steps_to_continue(directory, stage_name, training)
    if not overwrite:
        require_same(directory, stage_name, settings | ({"num_steps": was} if was else {}), inputs)
    takes_profile = needs_pivots(method) and method.verifies
    is_new = overwrite or find_manifest(directory, stage_name) is None

    def differences(acting: Mapping[str, Any] | None) -> list[Difference]:
        code = own_code(verifier)
        return profile_differences(files, training, describe(verifier), code, verification, acting)

    if takes_profile and is_new and any(one.kind not in profile_may_differ_in for one in differences(None)):
        refuse_profile(directory, differences(_as_json(describe_policy(policy))), profile_may_differ_in)
    checked = 0
    if method.verifies:
        report, is_new_report = require_checked(
            directory, known, verifier, checking, observer, policy, verification, same_turns=False
        )
        checked = report.num_rollout_turns if is_new_report else 0
        if is_new:
            checked += _require_accepted(chosen, labels, verifier, verification, policy)
    acting = describe_policy(policy)
    differing = differences(_as_json(acting)) if takes_profile else []
    if is_new:
        refuse_profile(directory, differing, profile_may_differ_in)
    if candidates:
        chosen = known = _fitting(chosen, policy, training.train_max_tokens)
    options = with_policy_defaults(training, policy)
    settings |= {**options_dict(options), **policy.training_identity}
    settings = {name: value for name, value in settings.items() if name not in _MAY_CHANGE}
    inputs["policy"] = sha256_of_json(policy.identity)
    if overwrite:
        move_aside(directory, stage_name)
    if was is not None:
        require_same(directory, stage_name, settings | {"num_steps": was}, inputs)  # before anything moves
        move_results_aside(directory, stage_name)
        reopen(directory, stage_name, {"num_steps": training.num_steps})
    limits = {**options_dict(checking), **options_dict(verification), **keeping}
    if profile_may_differ_in:
        limits["profile_may_differ_in"] = sorted(profile_may_differ_in)
    with Stage(
        directory,
        stage_name,
        {**settings, **limits},
        inputs,
        (*limits, CONTINUED, "profile_may_differ_in"),
        acting,
        is_verified=True,
        plugins={"verifier": spec_of(verifier)},
        observer=observer,
    ) as stage:
        canaries = known if method.verifies and not stage.done else ()
        with Verification(verifier, verification, canaries, policy) as guarded:
            steps = train(policy, chosen, guarded, directory / stage_name, options, observer, made)
        if stage.done:
            return
        with at_work(observer, "exporting the policy"):
            policy.export(directory / stage_name / "policy")
        paid = ("samples/total", "samples/continuation_turns")
        bought = sum(step.metrics.get(metric, 0.0) for step in steps for metric in paid)
        skipped = sum(step.metrics.get("update/skipped", 0.0) for step in steps)
        stage.finish(
            {
                ("candidate_turns" if candidates else "pivots"): len(chosen),
                "steps": len(steps),
                "skipped_updates": int(skipped),
                "usual_learning_rate": usual_rate(options, policy),
                **({"profile_differs_in": [*map(str, differing)]} if differing else {}),
            },
            num_rollout_turns=int(bought) + checked + guarded.num_rollout_turns,
        )


def _steps_to_continue(directory: Path, stage: str, training: TrainingOptions) -> int | None:
    """The steps of a training that now gets more; None if it gets no more.

    Raises:
        InputError: its learning rate fell to the end that it was given.
    """
    manifest = find_manifest(directory, stage)
    was = manifest.options.get("num_steps") if manifest else None
    if not isinstance(was, int) or was >= training.num_steps:
        return None
    if training.decay != "constant":
        raise InputError(
            f"this training has --decay {training.decay}: its learning rate falls to the end of its {was} steps, so it "
            f"cannot go on to {training.num_steps}. Start it again with --overwrite, or train another with --name"
        )
    return was


def _as_json(acting: Mapping[str, Any]) -> dict[str, Any]:
    """As a manifest holds it."""
    found: dict[str, Any] = json.loads(json.dumps(acting, default=str))
    return found


def _require_accepted(
    turns: Sequence[Turn],
    labels: Sequence[Label],
    verifier: Verifier,
    verification: VerificationOptions,
    policy: Policy,
) -> int:
    """Try the verifier on the actions that labels accept at these turns: one that looks at the demonstration alone, or
    at effects, knows nothing of them.

    Returns:
        rollout turns that the verifier bought.

    Raises:
        InputError: it fails such an action.
    """
    accepted = {label.turn_id: label.accept for label in labels}
    cases = [(turn, action) for turn in turns for action in accepted.get(turn.id, ())]
    if not cases:
        return 0
    with Verification(verifier, verification, (), policy) as guarded:
        verdicts = guarded.judge_all(cases)
    told = [
        (verdict.outcome, f"{turn.id} ({verdict.reason})") for (turn, _), verdict in zip(cases, verdicts, strict=True)
    ]
    if failed := [place for outcome, place in told if outcome == "fail"]:
        raise InputError(
            f"the verifier {describe(verifier)} fails actions that the labels of the selection accept: "
            f"{_listed(failed)}. It does not look at accepted actions, so training would punish them. Train with one "
            "that does (docs/verifiers.md), or select without these labels"
        )
    if unknown := [place for outcome, place in told if outcome == "no_verdict"]:
        warnings.warn(
            f"the verifier {describe(verifier)} gives no verdict on actions that labels accept: {_listed(unknown)}. "
            "Such samples are left out of training",
            Notice,
            stacklevel=3,
        )
    return turns_bought(verdicts)


def _listed(facts: Sequence[str]) -> str:
    more = len(facts) - _SHOWN_FACTS
    return ", ".join(facts[:_SHOWN_FACTS]) + (f" and {more} more" if more > 0 else "")


def _fitting(turns: Sequence[Turn], policy: Policy, max_tokens: int) -> list[Turn]:
    """
    Raises:
        InputError: the policy can act at none of the turns.
    """
    faults = {turn.id: misfit(policy, turn, max_tokens) for turn in turns}
    fitting = [turn for turn in turns if faults[turn.id] is None]
    if not fitting:
        left_out = [fault for fault in faults.values() if fault is not None]
        raise InputError(
            f"the policy can act at none of the {len(turns)} candidate turns: {why_none_fits(left_out, max_tokens)}"
        )
    if len(fitting) < len(turns):
        warnings.warn(f"{len(turns) - len(fitting)} of {len(turns)} candidate turns do not fit", Notice, stacklevel=2)
    return fitting


def _require_environments(
    method: Method, environments: MakeEnvironments | Mapping[str, MakeEnvironments] | None, episodes_per_task: int
) -> dict[str, Environments]:
    if environments and not method.plays:
        raise InputError(f"{method.title} plays no environments; leave out --train-environments")
    if method.plays and not environments:
        raise InputError(f"{method.title} plays whole episodes; name environments with --train-environments")
    return make_checked(environments, episodes_per_task) if environments else {}
