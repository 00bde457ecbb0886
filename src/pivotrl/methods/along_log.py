"""PivotRL along the log with the policy's own history: go on while its actions are as good as the logged ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pivotrl.protocols import ObjectiveName, Turn
from pivotrl.records import SampleGroup, Trajectory
from pivotrl.rollouts import misfit
from pivotrl.training import Lesson, Step, TrainingOptions
from pivotrl.training_options import require_groups
from pivotrl.turns import in_place_of


@dataclass(frozen=True, kw_only=True)
class Method:
    """Walks along the trajectory of each turn of the step, from its first turn to that one. At every turn the policy
    acts G times, and groups with mixed outcomes teach. The first of the G actions goes into the history in place of the
    logged one if it passes; otherwise the walk ends.

    The answers to actions remain those of the log. They are the right ones where actions that pass have equal effects
    (``tool_call``, ``command``, ``execute``); with other verifiers use ``own_states``, which plays.
    """

    title: ClassVar[str] = "PivotRL along the log"
    objective: ClassVar[ObjectiveName] = "policy_gradient"
    verifies: ClassVar[bool] = True
    plays: ClassVar[bool] = False

    def check(self, options: TrainingOptions) -> None:
        require_groups(options)

    def lesson(self, step: Step) -> Lesson:
        visited, samples = _walk(step)
        lesson = step.practise(samples, visited)
        reached = {turn.id for turn in visited} & {turn.id for turn in step.turns}
        return dataclasses.replace(lesson, metrics=lesson.metrics | {"groups/reached": float(len(reached))})


def _walk(step: Step) -> tuple[list[Turn], list[SampleGroup]]:
    """The turns that were visited, each with the policy's own history, and their samples."""
    last: dict[str, Turn] = {}
    for turn in step.turns:
        known = last.get(turn.trajectory.id)
        last[turn.trajectory.id] = turn if known is None or turn.index > known.index else known
    walking = list(filter(None, (_next(turn.trajectory, 0, turn.index) for turn in last.values())))
    visited, samples = list[Turn](), list[SampleGroup]()
    while walking := [turn for turn in walking if misfit(step.policy, turn, step.options.train_max_tokens) is None]:
        groups = step.sample(walking)
        visited += walking
        samples += groups
        walking = list(_gone_on(walking, groups, {name: turn.index for name, turn in last.items()}))
    return visited, samples


def _gone_on(turns: Sequence[Turn], groups: Sequence[SampleGroup], ends: dict[str, int]) -> Iterator[Turn]:
    """The next turn of each walk whose first action passed."""
    for turn, group in zip(turns, groups, strict=True):
        messages = turn.trajectory.messages
        taken = in_place_of(messages[turn.index], group.completions_G[0].action)
        if group.verdicts_G[0].outcome == "pass" and taken is not None:
            own = (*messages[: turn.index], taken, *messages[turn.index + 1 :])
            trajectory = turn.trajectory.model_copy(update={"messages": own})
            if following := _next(trajectory, turn.index + 1, ends[trajectory.id]):
                yield following


def _next(trajectory: Trajectory, start: int, end: int) -> Turn | None:
    """The first turn from ``start`` to ``end`` at which the agent acted and from which may be learned; pinned examples
    and other messages of the agent stay in the history as they were logged."""
    for index in range(max(start, trajectory.pinned_messages), end + 1):
        turn, is_agents = Turn(trajectory, index), trajectory.messages[index].role == "assistant"
        if index and is_agents and index not in trajectory.excluded and not turn.expected_action.is_empty:
            return turn
    return None
