"""Questions outside the task whose answers can be checked: asked, judged, and counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pivotrl.evaluation.divergence import can_score
from pivotrl.evaluation.option_scores import score_options
from pivotrl.evaluation.options import EvaluationOptions
from pivotrl.evaluation.questions import CHECKED, Question, text_turns
from pivotrl.intervals import Estimate, clustered_mean
from pivotrl.protocols import InputError, Sampler, Verifier
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.records import AnswerResult, SampleGroup, SkippedTurn
from pivotrl.rollouts import SampleFaults, misfit, sample_groups
from pivotrl.storage.record_files import RecordFile


def evaluate_answers(
    sampler: Sampler,
    questions: Sequence[Question],
    verifier: Verifier,
    path: Path,
    options: EvaluationOptions = EvaluationOptions(),
    observer: Observer = SILENT,
) -> list[AnswerResult]:
    """Ask each question once, greedily; of a question with options, score them instead. Questions already in the file
    are skipped; those that do not fit the model get no reward.

    Args:
        questions: from :func:`pivotrl.evaluation.load_questions`.
        verifier: judges the answers: :func:`pivotrl.evaluation.answer_verifier` for all kinds, or one verifier that
            compares with the expected answer.

    Raises:
        InputError: there are options, and the policy cannot score them.
    """
    if any("options" in question for question in questions) and not can_score(sampler):
        raise InputError(
            f"{type(sampler).__name__} cannot tell how likely an option is; give a policy that holds its weights, or "
            "take the questions with 'options' out of the file"
        )
    file = RecordFile(path, AnswerResult)
    done = sum(question["id"] in file for question in questions)
    observer.progress("questions", done, len(questions))
    for start in range(0, len(questions), options.eval_batch):
        batch = [question for question in questions[start : start + options.eval_batch] if question["id"] not in file]
        chosen = score_options(sampler, [question for question in batch if "options" in question])
        said = _ask(sampler, [question for question in batch if "options" not in question], verifier, options)
        known = {result.item_id: result for result in (*chosen, *said)}
        file.append([known[question["id"]] for question in batch])
        done += len(batch)
        observer.progress("questions", done, len(questions))
    found = list(file)
    asked = [result for result in found if not result.option_tokens_O]
    faults_of_all = SampleFaults(total=len(asked), cut_off=sum(result.num_cut_off for result in asked))
    faults_of_all.warn(f"--eval-max-tokens (now {options.eval_max_tokens}), or max_tokens in the file of questions")
    return found


def _ask(
    sampler: Sampler, questions: Sequence[Question], verifier: Verifier, options: EvaluationOptions
) -> list[AnswerResult]:
    """The answers; questions of one token limit are asked together."""
    found: list[AnswerResult] = []
    for limit in sorted({question.get("max_tokens", options.eval_max_tokens) for question in questions}):
        alike = [question for question in questions if question.get("max_tokens", options.eval_max_tokens) == limit]
        turns = text_turns(alike)
        faults = {turn.id: misfit(sampler, turn, limit) for turn in turns}
        fitting = [turn for turn in turns if faults[turn.id] is None]
        sampling = options.sampling(0.0).model_copy(update={"max_tokens": limit})
        drawn = sample_groups(fitting, sampler, verifier, 1, sampling) if fitting else ()
        groups = {group.turn_id: group for group in drawn}
        found += [_result(one, groups.get(turn.id), faults[turn.id]) for one, turn in zip(alike, turns, strict=True)]
    return found


def _result(question: Question, group: SampleGroup | None, fault: SkippedTurn | None) -> AnswerResult:
    if group is None:
        assert fault is not None
        return AnswerResult(
            item_id=question["id"], source=question["source"], reward=None, reason=fault.reason, text="", num_tokens=0
        )
    completion, verdict = group.completions_G[0], group.verdicts_G[0]
    scores = verdict.details.get("scores", {})
    if verdict.outcome == "fail" and not scores:  # cut off or empty: the verifier did not come to its scores
        scores = {name: 0.0 for field, names in CHECKED.items() if field in question for name in names}
    return AnswerResult(
        item_id=question["id"],
        source=question["source"],
        reward=verdict.reward,
        reason=verdict.reason,
        text=completion.text,
        num_tokens=group.num_sampled_tokens or 0,
        cost=group.cost,
        num_cut_off=group.num_cut_off,
        scores=scores,
    )


FINER = {
    "margin": ("margin of the right option", "nats"),
    "right_per_token": ("right by the mean per token", "share right"),
    "loose": ("instructions followed loosely", "share right"),
    "share": ("instructions followed", "share of instructions"),
    "partial": ("marks for generated tasks", "share of marks"),
}
"""Finer measures of an answer (:attr:`pivotrl.records.AnswerResult.scores`): what each is, and its unit."""


def answer_accuracy(results: Sequence[AnswerResult]) -> Estimate | None:
    """Mean reward over questions with a verdict, all sources pooled; None if there are none."""
    scored = [(result.reward, result.item_id) for result in results if result.reward is not None]
    return clustered_mean([r for r, _ in scored], [i for _, i in scored]) if scored else None


def finer_score(results: Sequence[AnswerResult], name: str) -> Estimate | None:
    """Mean of a finer measure over the questions that have it; None for fewer than two."""
    scored = [(result.scores[name], result.item_id) for result in results if name in result.scores]
    bounded = FINER[name][1].startswith("share")
    return clustered_mean([s for s, _ in scored], [i for _, i in scored], bounded=bounded) if len(scored) > 1 else None


def accuracy_by_source(results: Sequence[AnswerResult]) -> dict[str, Estimate]:
    """:func:`answer_accuracy` of each source."""
    sources = dict.fromkeys(result.source for result in results)
    found = {source: answer_accuracy([r for r in results if r.source == source]) for source in sources}
    return {source: estimate for source, estimate in found.items() if estimate is not None}
