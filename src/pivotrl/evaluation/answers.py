"""Accuracy on questions outside the task that have a checkable answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pivotrl.evaluation.divergence import text_turns
from pivotrl.evaluation.options import EvaluationOptions
from pivotrl.intervals import Estimate, clustered_mean
from pivotrl.protocols import Sampler, Verifier
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.records import AnswerResult
from pivotrl.rollouts import SampleFaults, misfit, sample_groups
from pivotrl.storage.record_files import RecordFile


def evaluate_answers(
    sampler: Sampler,
    questions: Sequence[dict[str, str]],
    verifier: Verifier,
    path: Path,
    options: EvaluationOptions = EvaluationOptions(),
    observer: Observer = SILENT,
) -> list[AnswerResult]:
    """Ask each question once, greedily. Questions already in the file are skipped; those that do not fit the model get
    no reward.

    Args:
        questions: from :func:`pivotrl.evaluation.load_retention`: id, source, prompt and answer.
        verifier: judges an answer against the expected one, such as ``answer``.
    """
    file = RecordFile(path, AnswerResult)
    asked = list(zip(questions, text_turns(questions), strict=True))
    observer.progress("questions", len(file), len(asked))
    for start in range(0, len(asked), options.eval_batch):
        batch = [(text, turn) for text, turn in asked[start : start + options.eval_batch] if text["id"] not in file]
        faults = {turn.id: misfit(sampler, turn, options.eval_max_tokens) for _, turn in batch}
        fitting = [turn for _, turn in batch if faults[turn.id] is None]
        drawn = sample_groups(fitting, sampler, verifier, 1, options.sampling(0.0)) if fitting else ()
        groups = {group.turn_id: group for group in drawn}
        results = []
        for text, turn in batch:
            fault, group = faults[turn.id], groups.get(turn.id)
            results.append(
                AnswerResult(
                    item_id=text["id"],
                    source=text["source"],
                    reward=group.verdicts_G[0].reward if group else None,
                    reason=fault.reason if fault else groups[turn.id].verdicts_G[0].reason,
                    text=group.completions_G[0].text if group else "",
                    num_tokens=len(group.completions_G[0].token_ids_T) if group else 0,
                    num_cut_off=group.num_cut_off if group else 0,
                )
            )
        file.append(results)
        observer.progress("questions", len(file), len(asked))
    found = list(file)
    faults_of_all = SampleFaults(total=len(found), cut_off=sum(result.num_cut_off for result in found))
    faults_of_all.warn(f"--eval-max-tokens (now {options.eval_max_tokens})")
    return found


def answer_accuracy(results: Sequence[AnswerResult]) -> Estimate | None:
    """Mean reward over questions with a verdict, all sources pooled; None if there are none."""
    scored = [(result.reward, result.item_id) for result in results if result.reward is not None]
    return clustered_mean([r for r, _ in scored], [i for _, i in scored]) if scored else None


def accuracy_by_source(results: Sequence[AnswerResult]) -> dict[str, Estimate]:
    """:func:`answer_accuracy` of each source."""
    sources = dict.fromkeys(result.source for result in results)
    found = {source: answer_accuracy([r for r in results if r.source == source]) for source in sources}
    return {source: estimate for source, estimate in found.items() if estimate is not None}
