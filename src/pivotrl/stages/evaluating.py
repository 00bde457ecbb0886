"""The evaluation stage: measures a policy on held-out tasks, before or after training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from pivotrl.evaluation import (
    EvaluationOptions,
    answer_verifier,
    evaluate_answers,
    evaluate_episodes,
    evaluate_progress,
    evaluate_retention,
    evaluate_turns,
)
from pivotrl.evaluation.questions import Question
from pivotrl.judging.guarded import Verification, VerificationOptions
from pivotrl.options import options_dict
from pivotrl.plugins.describing import describe, own_code, spec_of
from pivotrl.plugins.environments import describe_environments, make_checked, require_begin
from pivotrl.plugins.shapes import require_policy, require_sampler, require_verifier
from pivotrl.protocols import InputError, MakeEnvironments, Policy, Sampler, Turn, Verifier, describe_policy
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.records import Manifest, SkippedTurn
from pivotrl.runs.checkpoints import checkpoint_sha256, find_checkpoint, restore
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import evaluation_stage, training_stage
from pivotrl.runs.manifest import find_manifest
from pivotrl.runs.replacing import move_aside
from pivotrl.runs.stage import Stage, require_same
from pivotrl.stages.reading import nothing_held_out
from pivotrl.storage.record_files import sha256_of_json
from pivotrl.turns import TurnOptions, cut, draw_by_task


def evaluate_stage(
    directory: Path,
    *,
    name: str,
    policy: Sampler,
    verifier: Verifier,
    turns: TurnOptions = TurnOptions(),
    evaluation: EvaluationOptions = EvaluationOptions(),
    environments: MakeEnvironments | Mapping[str, MakeEnvironments] | None = None,
    retention: Sequence[dict[str, str]] = (),
    answers: Sequence[Question] = (),
    verification: VerificationOptions = VerificationOptions(),
    overwrite: bool = False,
    training: str | None = None,
    load_weights: bool = False,
    checkpoint: str | None = None,
    as_given: bool = False,
    may_be_empty: bool = False,
    observer: Observer = SILENT,
) -> None:
    """Held-out turns, walks, episodes and retention texts -> ``evaluations/<name>.*.jsonl``.

    Args:
        name: ``before`` measures the policy before training; any other name, after it.
        policy: a sampler is enough, unless ``load_weights`` or ``retention`` is given.
        environments: a maker of environments, or several by name.
        answers: questions outside the task, see :func:`pivotrl.evaluation.load_questions`.
        overwrite: move an earlier evaluation of this name aside as soon as the new one can begin.
        training: name of the training that the policy comes from; None is the run's training.
        load_weights: load the final weights of the training into the policy.
        checkpoint: load this checkpoint instead: a number of steps of the training, which need not be finished, or a
            path.
        as_given: the policy holds no weights of a training of this run, whatever the evaluation is called.
        may_be_empty: accept that there is nothing to measure.

    Raises:
        InputError: there is nothing to measure, or the training is unfinished.
    """
    require_verifier(verifier)
    require_sampler(policy)
    if load_weights or checkpoint or retention:
        require_policy(cast(Policy, policy))
    files, stage_name, trained = RunFiles(directory), evaluation_stage(name), training_stage(training)
    if name == "before" and (training is not None or load_weights or checkpoint):
        raise InputError("'before' measures the policy before training; choose another --name for a training")
    if as_given and (load_weights or checkpoint or training is not None):
        raise InputError("--as-given measures no training; leave out --training and --checkpoint")
    weights = find_checkpoint(directory / trained / "checkpoints", checkpoint) if checkpoint else None
    if load_weights and not weights:
        files.finished(trained)
    candidates, skipped = cut(files.heldout(), TurnOptions(domain=turns.domain))
    drawn = draw_by_task(candidates, None, evaluation.heldout_turns, evaluation.eval_seed)
    made = make_checked(environments, evaluation.episodes_per_task) if environments else {}
    judge = answer_verifier(answers)
    walked = _walked(candidates, evaluation)
    if not (drawn or walked or made or retention or answers or may_be_empty):
        raise InputError(f"nothing to evaluate in {directory}: {_why_empty(directory, skipped)}")
    settings = {
        **options_dict(evaluation),
        "verifier": describe(verifier),
        "environments": describe_environments(environments),
        "training": training,
    }
    if evaluation.progress_trajectories == 0:  # as in runs of versions that could not walk
        settings.pop("progress_trajectories")
    heldout = directory / "heldout.jsonl"
    inputs = {
        "heldout.jsonl": files.sha256("heldout.jsonl") if heldout.is_file() else "",
        "retention": sha256_of_json(list(retention)),
        **own_code(verifier),
    }
    if answers:
        inputs["answers"] = sha256_of_json(list(answers))
    metrics = f"{trained}/metrics.jsonl"
    if weights:
        settings["checkpoint"] = checkpoint
        inputs["checkpoint"] = checkpoint_sha256(weights)
    elif as_given:
        settings["as_given"] = True
    elif name != "before" and (directory / metrics).is_file():
        inputs[metrics] = files.sha256(metrics)
    if not overwrite:
        require_same(directory, stage_name, settings, inputs)
    inputs["policy"] = sha256_of_json(policy.identity)
    if (load_weights or weights) and (began := find_manifest(directory, trained)):
        _require_start_of(began, policy)
    settings["answers"] = getattr(answers, "path", None)
    settings["retention"] = getattr(retention, "path", None)  # noted only: the texts are known by their content
    if weights:
        cast(Policy, policy).load(weights)
    elif load_weights:
        restore(cast(Policy, policy), directory / trained / "checkpoints")
    if overwrite:
        move_aside(directory, stage_name)
    limits, acting = options_dict(verification), describe_policy(policy)
    with Stage(
        directory,
        stage_name,
        {**settings, **limits},
        inputs,
        (*limits, "retention", "answers"),
        acting,
        is_verified=True,
        plugins={"verifier": spec_of(verifier)},
        observer=observer,
    ) as stage:
        if stage.done:
            return
        require_begin(made)

        def path(kind: str) -> Path:
            return directory / f"{stage_name}.{kind}.jsonl"

        with Verification(verifier, verification, drawn or walked, policy) as guarded:
            turn_results = evaluate_turns(policy, drawn, guarded, path("turns"), evaluation, observer)
            walks = evaluate_progress(policy, walked, guarded, path("progress"), evaluation, observer) if walked else []
        episodes = evaluate_episodes(policy, made, path("episodes"), evaluation, observer) if made else []
        texts = evaluate_retention(cast(Policy, policy), retention, path("retention"), observer) if retention else []
        answered = evaluate_answers(policy, answers, judge, path("answers"), evaluation, observer) if answers else []
        if not (turn_results or walks or episodes or texts or answered or may_be_empty):
            raise InputError(
                f"none of the {len(drawn)} held-out turns fits the model's context with --eval-max-tokens "
                f"{evaluation.eval_max_tokens}; lower it or hold out shorter trajectories"
            )
        stage.finish(
            {
                "turns": len({result.turn_id for result in turn_results}),
                "turns_too_long": len(drawn) - len({result.turn_id for result in turn_results}),
                "samples_cut_off": sum(result.num_cut_off for result in turn_results),
                "trajectories_walked": len({walk.trajectory_id for walk in walks}),
                "episodes": len(episodes),
                "retention_texts": len(texts),
                "questions": len(answered),
            },
            num_rollout_turns=sum(r.num_samples + r.num_continuation_turns for r in turn_results)
            + sum(walk.num_sampled + walk.num_continuation_turns for walk in walks)
            + sum(episode.num_turns for episode in episodes)
            + sum(answer.num_tokens > 0 for answer in answered)
            + guarded.num_rollout_turns,
        )


def _walked(candidates: Sequence[Turn], evaluation: EvaluationOptions) -> list[Turn]:
    """The turns of the trajectories that are walked along, drawn round-robin over tasks."""
    firsts = list({turn.trajectory.id: turn for turn in reversed(candidates)}.values())[::-1]
    drawn = draw_by_task(firsts, None, evaluation.progress_trajectories, evaluation.eval_seed)
    chosen = {turn.trajectory.id for turn in drawn}
    return [turn for turn in candidates if turn.trajectory.id in chosen]


def _require_start_of(trained: Manifest, policy: Sampler) -> None:
    """Its weights are changes of the policy that it began from; only the precision may differ.

    Raises:
        InputError: the policy is another one.
    """
    began, given = (
        {fact: value for fact, value in dict(identity).items() if fact != "dtype"}
        for identity in (trained.policy.get("identity", {}), policy.identity)
    )
    if began and began != given:
        facts = sorted(fact for fact in began.keys() | given.keys() if began.get(fact) != given.get(fact))
        named = " ".join(
            f"--{name} {trained.policy[name]}" for name in ("model", "adapter") if trained.policy.get(name)
        )
        raise InputError(
            f"{trained.stage} began from another policy than this one, by {', '.join(facts)}; give what it began from: "
            f"{named or trained.policy.get('policy')}"
        )


def _why_empty(directory: Path, skipped: Sequence[SkippedTurn]) -> str:
    beside = "Episodes (--environments) and reference texts (--retention) need no held-out tasks"
    if skipped:
        reasons = dict(Counter(skip.reason for skip in skipped))
        return f"none of the {len(skipped)} turns of the held-out trajectories is a candidate: {reasons}. {beside}"
    manifest = find_manifest(directory, "read")
    reason = nothing_held_out(manifest) if manifest else "no trajectory is held out"
    return f"{reason}. {beside}"
