"""End-to-end RL: GRPO over whole episodes, on the same engine as PivotRL."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from pivotrl.advantages import group_advantages
from pivotrl.episodes import Episode, draw_tasks, play_once, turns_of
from pivotrl.options import AtLeast1, NotNegative
from pivotrl.protocols import ObjectiveName, TrainingGroup
from pivotrl.records import EpisodeResult, Sampling
from pivotrl.training import Lesson, Step, TrainingOptions
from pivotrl.training_options import require_groups


@dataclass(frozen=True, kw_only=True)
class Method:
    """Plays G episodes of each task of a step; every turn of an episode gets the advantage of its outcome over the
    other episodes of the task.

    Args:
        tasks_per_step: tasks drawn for a step; a task comes back only after all others had their turn.
        keep_share: of the step's tasks with a reward, learn from this share: those whose rewards vary most (RAGEN,
            arXiv 2504.20073). The others do not count in the denominators either.
        malformed_penalty: subtracted from an episode's reward for each turn that is no well-formed action, before
            advantages. `reward/mean` is without it.
    """

    tasks_per_step: AtLeast1 = 8
    keep_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    malformed_penalty: NotNegative = 0.0

    title: ClassVar[str] = "end-to-end RL (GRPO)"
    objective: ClassVar[ObjectiveName] = "policy_gradient"
    verifies: ClassVar[bool] = False
    plays: ClassVar[bool] = True

    def check(self, options: TrainingOptions) -> None:
        require_groups(options)

    def lesson(self, step: Step) -> Lesson:
        """Episodes without a reward are left out: unknown is not 0."""
        played = self._play(step)
        by_task: dict[str, list[EpisodeResult]] = {}
        for result in played:
            by_task.setdefault(result.cluster, []).append(result)
        rewarded = [
            [(result, self._penalised(result)) for result in results if result.reward is not None]
            for results in by_task.values()
        ]
        scored = [group for group in rewarded if group]
        kept = _most_varied(scored, math.ceil(self.keep_share * len(scored)))
        groups: list[TrainingGroup] = []
        num_with_signal = 0
        for group in kept:
            advantages = group_advantages([reward for _, reward in group], step.options.advantage)
            num_with_signal += any(advantages)
            for (result, _), advantage in zip(group, advantages, strict=True):
                groups += _turns(result, advantage)
        if step.options.average_over == "signal":
            groups = [group for group in groups if any(group.advantages_G)]
        teaches = num_with_signal > 0 or (bool(groups) and step.options.kl_coefficient > 0)
        metrics = {
            "groups/sampled": float(len(by_task)),
            "groups/with_verdict": float(len(scored)),
            "groups/kept": float(len(kept)),
            "groups/with_signal": float(num_with_signal),
            **_metrics(played, list(by_task.values())),
        }
        return Lesson(groups, teaches, metrics)

    def _play(self, step: Step) -> list[EpisodeResult]:
        """G episodes of each task of the step. Numbers go on from step to step, so no episode is played twice."""
        options, size = step.options, step.options.group_size
        sampling = Sampling(
            temperature=options.train_temperature, max_tokens=options.train_max_tokens, seed=options.train_seed
        )
        episodes = [
            Episode(task.environment, task.task, step.number * size + number, task.make)
            for task in draw_tasks(step.environments, self.tasks_per_step, step.number, options.train_seed)
            for number in range(size)
        ]
        return play_once(episodes, step.policy, sampling, step.episodes_file)

    def _penalised(self, result: EpisodeResult) -> float:
        assert result.reward is not None
        num_malformed = sum(turn.parse_error is not None for turn in result.turns)
        return result.reward - self.malformed_penalty * num_malformed


Scored = list[tuple[EpisodeResult, float]]
"""The episodes of a task, each with its reward."""


def _most_varied(groups: Sequence[Scored], number: int) -> list[Scored]:
    """The groups whose rewards vary most, in their order; of equal ones the first."""
    variances = [statistics.pvariance([reward for _, reward in group]) for group in groups]
    best = sorted(range(len(groups)), key=lambda index: -variances[index])[:number]
    return [groups[index] for index in sorted(best)]


def _turns(result: EpisodeResult, advantage: float) -> list[TrainingGroup]:
    """Every sampled turn of an episode as a group of one, as it was played."""
    return [
        TrainingGroup(turn, [completion], [advantage], played.prompt_sha256)
        for turn, completion, played in zip(turns_of(result), result.completions(), result.turns, strict=True)
    ]


def _metrics(played: Sequence[EpisodeResult], groups: Sequence[Sequence[EpisodeResult]]) -> dict[str, float]:
    turns = [turn for result in played for turn in result.turns]
    unscored = sum(result.num_turns for result in played if result.reward is None)
    metrics = {
        "episodes/total": float(len(played)),
        "samples/total": float(len(turns)),
        "samples/without_verdict": float(unscored),
        "samples/malformed": float(sum(turn.parse_error is not None for turn in turns)),
        "samples/cut_off": float(sum(turn.finish_reason == "length" for turn in turns)),
    }
    rewards = [[result.reward for result in group if result.reward is not None] for group in groups]
    for name, values in (
        ("reward/mean", [statistics.fmean(group) for group in rewards if group]),
        ("reward/group_variance", [statistics.pvariance(group) for group in rewards if group]),
        ("episodes/mean_turns", [result.num_turns for result in played]),
        ("samples/mean_tokens", [len(turn.token_ids_T) for turn in turns]),
    ):
        if values:
            metrics[name] = statistics.fmean(values)
    return metrics
