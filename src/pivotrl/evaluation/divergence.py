"""How far a policy has moved from its reference at given turns: forward KL, from stored samples of the reference.

KL(reference || policy) = E over actions of the reference of log reference - log policy. The samples are drawn once and
scored under each policy, so that all policies are compared on the same actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from pivotrl.evaluation.options import EvaluationOptions
from pivotrl.intervals import Estimate, clustered_mean
from pivotrl.plugins.shapes import sampled
from pivotrl.protocols import InputError, Policy, Sampler, ScoresActions, Turn
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.records import KlResult, SampleGroup
from pivotrl.rollouts import misfit, storable
from pivotrl.storage.record_files import RecordFile
from pivotrl.turns import whole_trajectories


def draw_reference(
    sampler: Sampler,
    turns: Sequence[Turn],
    num_samples: int,
    path: Path,
    options: EvaluationOptions = EvaluationOptions(),
    observer: Observer = SILENT,
) -> list[SampleGroup]:
    """Draw actions of the reference at temperature 1, without verdicts. Turns already in the file are skipped; those
    that do not fit the model are left out.

    Args:
        sampler: the reference, such as ``policy.reference``.
        options: ``eval_max_tokens``, ``eval_seed`` and ``eval_batch`` apply.
    """
    file = RecordFile(path, SampleGroup)
    fitting = [turn for turn in turns if misfit(sampler, turn, options.eval_max_tokens) is None]
    missing = [turn for turn in fitting if turn.id not in file]
    observer.progress("turns sampled", len(file), len(fitting))
    for batch in whole_trajectories(missing, options.eval_batch):
        drawn = sampled(sampler, batch, num_samples, options.sampling(1.0))
        file.append([g.model_copy(update={"completions_G": tuple(map(storable, g.completions_G))}) for g in drawn])
        observer.progress("turns sampled", len(file), len(fitting))
    return list(file)


def can_score(sampler: Sampler) -> bool:
    """Whether it can tell how likely a given action is; a sampler on a server cannot."""
    acting = getattr(sampler, "loaded", sampler)
    learner = getattr(acting, "learner", None)
    return isinstance(acting, ScoresActions) and (learner is None or hasattr(learner, "token_logprobs"))


def action_logprobs(policy: Sampler, turns: Sequence[Turn], groups: Sequence[SampleGroup]) -> list[list[list[float]]]:
    """log policy(token) of every token [turn][sample][token] at temperature 1, for the group of each turn.

    Raises:
        InputError: the policy cannot score actions.
        ValueError: a group was sampled from a different rendering of its turn.
    """
    if not can_score(policy):
        raise InputError(f"{type(policy).__name__} cannot score given actions; use a policy that holds its weights")
    return cast(Any, policy).action_logprobs(turns, groups)  # type: ignore[no-any-return]


def task_kl(
    policy: Policy,
    turns: Sequence[Turn],
    groups: Sequence[SampleGroup],
    batch: int = 16,
    observer: Observer = SILENT,
) -> list[KlResult]:
    """Forward KL(reference || policy) at each turn, estimated from samples of the reference (nats).

    Args:
        turns: must contain the turn of every group.
        groups: from :func:`draw_reference`, or profiles at temperature 1 without top-p or top-k: their stored
            log-probabilities are those of the reference.
        batch: turns scored in one call.

    Raises:
        InputError: the policy cannot score actions.
        ValueError: a turn is missing, or a group was sampled from a different rendering of it.
    """
    by_id = {turn.id: turn for turn in turns}
    if missing := [group.turn_id for group in groups if group.turn_id not in by_id]:
        raise ValueError(f"the turn of the group {missing[0]!r} is not among the {len(by_id)} turns given")
    results: list[KlResult] = []
    for start in range(0, len(groups), batch):
        part = groups[start : start + batch]
        its = [by_id[group.turn_id] for group in part]
        scores = action_logprobs(policy, its, part)
        results += [_result(turn, group, mine) for turn, group, mine in zip(its, part, scores, strict=True)]
        observer.progress("turns scored", len(results), len(groups))
    return results


def kl_per_action(results: Sequence[KlResult]) -> Estimate | None:
    """Mean over turns in nats, clustered by task; None for fewer than two tasks."""
    return _mean([(r.kl, r.task_id) for r in results])


def kl_per_token(results: Sequence[KlResult]) -> Estimate | None:
    """As :func:`kl_per_action`, of each turn's KL per token."""
    return _mean([(r.kl_per_token, r.task_id) for r in results])


def _mean(values: Sequence[tuple[float, str]]) -> Estimate | None:
    if len({task for _, task in values}) < 2:
        return None
    return clustered_mean([value for value, _ in values], [task for _, task in values], bounded=False)


def _result(turn: Turn, group: SampleGroup, scores: Sequence[Sequence[float]]) -> KlResult:
    reference = [sum(completion.logprobs_T) for completion in group.completions_G]
    policy, num_tokens = [sum(tokens) for tokens in scores], sum(map(len, scores))
    return KlResult(
        turn_id=turn.id,
        task_id=turn.trajectory.task_id,
        kl=(sum(reference) - sum(policy)) / len(scores),
        kl_per_token=(sum(reference) - sum(policy)) / num_tokens,
        nll_per_token=-sum(policy) / num_tokens,
        num_samples=len(scores),
        num_tokens=num_tokens,
    )
