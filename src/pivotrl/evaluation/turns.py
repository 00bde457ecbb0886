"""Accuracy at held-out turns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pivotrl.evaluation.options import Draw, EvaluationOptions
from pivotrl.protocols import Sampler, Turn, Verifier
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.records import SampleGroup, TurnResult, at_temperature
from pivotrl.rollouts import SampleFaults, continuation_turns, misfit, sample_groups, store_lost
from pivotrl.storage.record_files import RecordFile
from pivotrl.turns import whole_trajectories


def evaluate_turns(
    sampler: Sampler,
    turns: Sequence[Turn],
    verifier: Verifier,
    path: Path,
    options: EvaluationOptions = EvaluationOptions(),
    observer: Observer = SILENT,
) -> list[TurnResult]:
    """Sample and verify actions at each held-out turn, as often and at the temperatures that ``options.turn_draws``
    says. Turns already in the file are skipped. A turn whose samples a server did not give is asked once more at the
    end; if it still gives none, the turn has no reward, and its reason says why.

    Returns:
        one result per turn and temperature.
    """
    draws = options.turn_draws
    file = RecordFile(path, TurnResult, key=lambda result: _key(result.turn_id, result.temperature, draws[0]))
    fitting = [turn for turn in turns if misfit(sampler, turn, options.eval_max_tokens) is None]
    batches = [(draw, batch) for draw in draws for batch in whole_trajectories(fitting, options.eval_batch)]

    def missing(draw: Draw, batch: Sequence[Turn]) -> list[Turn]:
        return [turn for turn in batch if _key(turn.id, draw.temperature) not in file]

    total = len(draws) * len(fitting)
    done = total - sum(len(missing(draw, batch)) for draw, batch in batches)
    observer.progress("held-out turns", done, total)
    for is_last_try in (False, True):
        for draw, batch in batches:
            if not (still := missing(draw, batch)):
                continue
            # What a local model draws may depend on the turns beside it, so it gets whole batches.
            asked = still if is_last_try or getattr(sampler, "is_paid", False) else batch
            sampling = options.sampling(draw.temperature)
            groups = list(sample_groups(asked, sampler, verifier, draw.num_samples, sampling))
            if not is_last_try:
                store_lost(path, groups, draw.temperature)
            made = [pair for pair in zip(asked, groups, strict=True) if is_last_try or pair[1].fault is None]
            results = [_turn_result(turn, group, draw) for turn, group in made]
            file.append([result for result in results if result.key not in file])
            done += len(still) - len(missing(draw, batch))
            observer.progress("held-out turns", done, total)
    found = list(file)
    SampleFaults.of_results(found).warn(f"--eval-max-tokens (now {options.eval_max_tokens})")
    return found


def _key(turn_id: str, temperature: float | None, alone: Draw | None = None) -> str:
    """Of a result. Older versions measured at one temperature and did not note it."""
    if temperature is None and alone is not None:
        temperature = alone.temperature
    return at_temperature(turn_id, temperature)


def _turn_result(turn: Turn, group: SampleGroup, draw: Draw) -> TurnResult:
    """The mean reward of the samples with a verdict; text, tokens and reason are those of the first sample."""
    return TurnResult(
        turn_id=turn.id,
        task_id=turn.trajectory.task_id,
        temperature=draw.temperature,
        reward=group.mean,
        reason=group.verdicts_G[0].reason,
        text=group.completions_G[0].text,
        num_samples=len(group.completions_G),
        num_tokens=group.num_sampled_tokens or 0,
        num_cut_off=group.num_cut_off,
        num_continuation_turns=continuation_turns([group]),
        cost=group.cost,
        prompt_sha256=group.prompt_sha256,
        token_ids_T=group.completions_G[0].token_ids_T,
        logprobs_T=group.completions_G[0].logprobs_T,
        completions_G=group.completions_G,
        verdicts_G=group.verdicts_G,
    )
