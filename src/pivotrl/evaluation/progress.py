"""Own-history progress: how far the policy gets along a held-out trajectory with its own actions in the history.

A cheap stand-in for episodes (SOP of UI-S1, arXiv 2509.11543): it needs a verifier but no environment. Each action that
the verifier passes replaces the demonstrated message; the observations stay those of the log, which is right as far as
equivalent actions lead to the same observation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from pivotrl.evaluation.options import Draw, EvaluationOptions
from pivotrl.protocols import Sampler, Turn, Verifier
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.records import ProgressResult, SampleGroup, Trajectory, progress_key
from pivotrl.rollouts import continuation_turns, cost_of_groups, misfit, sample_groups, tokens_of_groups
from pivotrl.storage.record_files import RecordFile
from pivotrl.turns import in_place_of


def evaluate_progress(
    sampler: Sampler,
    turns: Sequence[Turn],
    verifier: Verifier,
    path: Path,
    options: EvaluationOptions = EvaluationOptions(),
    observer: Observer = SILENT,
) -> list[ProgressResult]:
    """Walk along the trajectories of these turns until the first action that does not pass. Walks already in the file
    are skipped; each is stored as soon as it ends.

    Args:
        turns: the turns to take; assistant messages without a turn here stay as they were logged.
        options: ``episode_draws`` says how many walks, and at which temperatures; ``eval_batch`` trajectories are
            walked side by side.

    Returns:
        one result per trajectory, temperature and walk.
    """
    file = RecordFile(path, ProgressResult)
    by_trajectory: dict[str, list[Turn]] = {}
    for turn in sorted(turns, key=lambda turn: turn.index):
        by_trajectory.setdefault(turn.trajectory.id, []).append(turn)
    asked = [
        _Walk(draw, number, by_trajectory[name])
        for draw in options.episode_draws
        for number in range(draw.num_samples)
        for name in dict.fromkeys(turn.trajectory.id for turn in turns)
    ]
    done = len(file)
    observer.progress("trajectories walked", done, len(asked))
    for batch in _batches(asked, options.eval_batch):
        walking = [walk for walk in batch if walk.key not in file]
        with getattr(sampler, "keeping", contextlib.nullcontext)():
            while walking:
                _take_turns(walking, sampler, verifier, options)
                ended = [walk for walk in walking if walk.reason]
                file.append([walk.result() for walk in ended])
                done += len(ended)
                walking = [walk for walk in walking if not walk.reason]
                observer.progress("trajectories walked", done, len(asked))
    return list(file)


class _Walk:
    """A policy on its way along a trajectory. ``reason`` says why it ended; "" while it goes on."""

    def __init__(self, draw: Draw, number: int, turns: Sequence[Turn]) -> None:
        self.draw, self.number, self.turns = draw, number, turns
        self.trajectory: Trajectory = turns[0].trajectory
        self.key = progress_key(self.trajectory.id, draw.temperature, number)
        self.reason, self.num_done, self.is_known = "", 0, True
        self.groups: list[SampleGroup] = []

    @property
    def next_turn(self) -> Turn:
        """The turn to take now, behind the policy's own history."""
        return Turn(self.trajectory, self.turns[self.num_done].index)

    def stop(self, reason: str, is_known: bool) -> None:
        self.reason, self.is_known = reason, is_known

    def act(self, group: SampleGroup) -> None:
        self.groups.append(group)
        completion, verdict, turn = group.completions_G[0], group.verdicts_G[0], self.next_turn
        if verdict.outcome != "pass":
            return self.stop(verdict.reason, is_known=verdict.outcome == "fail")
        messages = list(self.trajectory.messages)
        messages[turn.index] = in_place_of(messages[turn.index], completion.action) or messages[turn.index]
        self.trajectory = self.trajectory.model_copy(update={"messages": tuple(messages)})
        self.num_done += 1
        if self.num_done == len(self.turns):
            self.stop("reached_the_end", is_known=True)

    def result(self) -> ProgressResult:
        completions = [group.completions_G[0] for group in self.groups]
        return ProgressResult(
            trajectory_id=self.trajectory.id,
            task_id=self.trajectory.task_id,
            temperature=self.draw.temperature,
            number=self.number,
            num_turns=len(self.turns),
            num_done=self.num_done,
            is_known=self.is_known,
            reason=self.reason,
            num_sampled=len(completions),
            num_tokens=tokens_of_groups(self.groups),
            cost=cost_of_groups(self.groups),
            num_continuation_turns=continuation_turns(self.groups),
            texts=tuple(completion.text for completion in completions),
        )


def _batches(walks: Sequence[_Walk], size: int) -> list[list[_Walk]]:
    """At most ``size`` walks of one temperature and number: they are sampled in one call, each under its own id."""
    batches: list[list[_Walk]] = []
    for walk in walks:
        last = batches[-1][-1] if batches else None
        if last is None or (last.draw, last.number) != (walk.draw, walk.number) or len(batches[-1]) == size:
            batches.append([])
        batches[-1].append(walk)
    return batches


def _take_turns(walking: Sequence[_Walk], sampler: Sampler, verifier: Verifier, options: EvaluationOptions) -> None:
    """One turn of each walk."""
    able: list[tuple[_Walk, Turn]] = []
    for walk in walking:
        turn = walk.next_turn
        fault = misfit(sampler, turn, options.eval_max_tokens)
        if fault is None:
            able.append((walk, turn))
        else:
            walk.stop(fault.reason, is_known=False)
    if able:
        draw, number = walking[0].draw, walking[0].number
        turns, sampling = [turn for _, turn in able], options.sampling(draw.temperature)
        groups = sample_groups(turns, sampler, verifier, 1, sampling, first=number)
        for (walk, _), group in zip(able, groups, strict=True):
            walk.act(group)
