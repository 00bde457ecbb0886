"""End-to-end RL: GRPO over whole episodes, on the same engine as PivotRL."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pivotrl.advantages import group_advantages
from pivotrl.episodes import Episode, episodes_of, play_episodes
from pivotrl.options import AtLeast1, InputError
from pivotrl.protocols import ObjectiveName, TrainingGroup, Turn
from pivotrl.records import EpisodeResult, Sampling
from pivotrl.seeding import derive_seed
from pivotrl.training import Lesson, Step, TrainingOptions
from pivotrl.training_options import require_groups


@dataclass(frozen=True, kw_only=True)
class Method:
    """Plays G episodes of each task of a step; every turn of an episode gets the advantage of its outcome over the
    other episodes of the task.

    Args:
        tasks_per_step: tasks drawn for a step; a task comes back only after all others had their turn.
    """

    tasks_per_step: AtLeast1 = 8

    title: ClassVar[str] = "end-to-end RL (GRPO)"
    objective: ClassVar[ObjectiveName] = "policy_gradient"
    verifies: ClassVar[bool] = False
    plays: ClassVar[bool] = True

    def check(self, options: TrainingOptions) -> None:
        require_groups(options)

    def lesson(self, step: Step) -> Lesson:
        """Episodes without a reward are left out: unknown is not 0."""
        groups: list[TrainingGroup] = []
        played = self._play(step)
        by_task: dict[str, list[EpisodeResult]] = {}
        for result in played:
            by_task.setdefault(result.cluster, []).append(result)
        num_with_signal = 0
        for results in by_task.values():
            scored = [(result, result.reward) for result in results if result.reward is not None]
            advantages = group_advantages([reward for _, reward in scored], step.options.advantage)
            num_with_signal += any(advantages)
            for (result, _), advantage in zip(scored, advantages, strict=True):
                groups += _turns(result, advantage)
        if step.options.average_over == "signal":
            groups = [group for group in groups if any(group.advantages_G)]
        teaches = num_with_signal > 0 or (bool(groups) and step.options.kl_coefficient > 0)
        metrics = {
            "groups/sampled": float(len(by_task)),
            "groups/with_verdict": float(sum(any(r.reward is not None for r in group) for group in by_task.values())),
            "groups/with_signal": float(num_with_signal),
            **_metrics(played, list(by_task.values())),
        }
        return Lesson(groups, teaches, metrics)

    def _play(self, step: Step) -> list[EpisodeResult]:
        """The episodes of the step; those that were played before are read back. Each is stored as soon as it ends."""
        options = step.options
        file, episodes = step.episodes_file, self._episodes(step)
        sampling = Sampling(
            temperature=options.train_temperature, max_tokens=options.train_max_tokens, seed=options.train_seed
        )
        for result in play_episodes([one for one in episodes if one.key not in file], step.policy, sampling):
            file.append([result])
        return [file.get(episode.key) for episode in episodes]

    def _episodes(self, step: Step) -> list[Episode]:
        """G episodes of each task of the step. Numbers go on from step to step, so no episode is played twice."""
        tasks = episodes_of(step.environments)
        if not tasks:
            raise InputError("this method plays episodes; name environments with --train-environments")
        group_size, drawn = step.options.group_size, []
        for position in range(step.number * self.tasks_per_step, (step.number + 1) * self.tasks_per_step):
            number, index = divmod(position, len(tasks))
            order = random.Random(derive_seed(step.options.train_seed, "tasks", number))  # noqa: S311
            drawn.append(order.sample(tasks, len(tasks))[index])
        drawn = list({episode.key: episode for episode in drawn}.values())
        return [
            Episode(task.environment, task.task, step.number * group_size + number, task.make)
            for task in drawn
            for number in range(group_size)
        ]


def _turns(result: EpisodeResult, advantage: float) -> list[TrainingGroup]:
    """Every sampled turn of an episode as a group of one, with nothing but what came before it, as it was played."""
    whole = result.trajectory()
    groups = []
    for turn, completion in zip(result.turns, result.completions(), strict=True):
        seen = whole.model_copy(update={"messages": whole.messages[: turn.index]})
        groups.append(TrainingGroup(Turn(seen, turn.index), [completion], [advantage], turn.prompt_sha256))
    return groups


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
