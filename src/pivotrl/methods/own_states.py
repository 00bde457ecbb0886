"""Own-state pivots: play with the current policy, and practise at the states that it reached."""

from __future__ import annotations

import dataclasses
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pivotrl.episodes import Episode, draw_tasks, play_once, turns_of
from pivotrl.options import AtLeast1
from pivotrl.protocols import ObjectiveName, Turn
from pivotrl.records import EpisodeResult, Sampling
from pivotrl.seeding import derive_seed
from pivotrl.training import Lesson, Step, TrainingOptions
from pivotrl.training_options import require_groups


@dataclass(frozen=True, kw_only=True)
class Method:
    """Plays one episode of each task of a step. Every state in which the policy had to act is a candidate; at some of
    them it acts G times, and the verifier judges the actions from that state. Groups with mixed outcomes teach, as in
    PivotRL.

    No demonstration exists at such a state, so the verifier must judge by the state: ``plancraft`` or ``outcome``, for
    example, but not ``exact``. It finds what was played, with the ``metadata`` of the environment, in the turn.

    Args:
        tasks_per_step: tasks played in a step; a task comes back only after all others.
        states_per_step: states drawn from the step's episodes; fewer if the episodes were short.
    """

    tasks_per_step: AtLeast1 = 8
    states_per_step: AtLeast1 = 32

    title: ClassVar[str] = "PivotRL at own states"
    objective: ClassVar[ObjectiveName] = "policy_gradient"
    verifies: ClassVar[bool] = True
    plays: ClassVar[bool] = True

    def check(self, options: TrainingOptions) -> None:
        require_groups(options)

    def lesson(self, step: Step) -> Lesson:
        played = self._play(step)
        states = self._draw(played, step)
        lesson = step.practise(step.sample(states), states)
        return dataclasses.replace(lesson, metrics=_with_episodes(lesson.metrics, played))

    def _play(self, step: Step) -> list[EpisodeResult]:
        options = step.options
        sampling = Sampling(
            temperature=options.train_temperature, max_tokens=options.train_max_tokens, seed=options.train_seed
        )
        episodes = [
            Episode(task.environment, task.task, step.number, task.make)
            for task in draw_tasks(step.environments, self.tasks_per_step, step.number, options.train_seed)
        ]
        return play_once(episodes, step.policy, sampling, step.episodes_file)

    def _draw(self, played: Sequence[EpisodeResult], step: Step) -> list[Turn]:
        """Different states of the episodes, drawn at random, in the order in which they were played."""
        states = [turn for result in played for turn in turns_of(result)]
        generator = random.Random(derive_seed(step.options.train_seed, "states", step.number))  # noqa: S311
        chosen = generator.sample(range(len(states)), min(self.states_per_step, len(states)))
        return [states[index] for index in sorted(chosen)]


def _with_episodes(metrics: dict[str, float], played: Sequence[EpisodeResult]) -> dict[str, float]:
    """The metrics of the groups, with what the episodes cost and earned."""
    turns = [turn for result in played for turn in result.turns]
    rewards = [result.reward for result in played if result.reward is not None]
    num_tokens = metrics["samples/total"] * metrics.get("samples/mean_tokens", 0.0)
    num_tokens += sum(len(turn.token_ids_T) for turn in turns)
    total = metrics["samples/total"] + len(turns)
    of_groups_alone = ("prompts/unshared", "prompts/computed")  # what the episodes computed is not counted
    return {
        **{name: value for name, value in metrics.items() if name not in of_groups_alone},
        **({"samples/mean_tokens": num_tokens / total} if total else {}),
        "samples/total": total,
        "samples/malformed": metrics["samples/malformed"] + sum(turn.parse_error is not None for turn in turns),
        "samples/cut_off": metrics["samples/cut_off"] + sum(turn.finish_reason == "length" for turn in turns),
        "episodes/total": float(len(played)),
        "episodes/turns": float(len(turns)),
        **({"episodes/mean_turns": len(turns) / len(played)} if played else {}),
        **({"episodes/reward": statistics.fmean(rewards)} if rewards else {}),
    }
