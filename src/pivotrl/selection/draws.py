"""The rewards of some samples of a turn: all of them, or one draw of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

from pivotrl.advantages import action_variance
from pivotrl.records import Completion, SampleGroup, Verdict


@dataclass(frozen=True, slots=True)
class Draw:
    """Samples of one turn. Those without a verdict have no reward and are left out of the numbers."""

    group: SampleGroup
    """All samples of the turn."""
    completions: Sequence[Completion]
    rewards: Sequence[float]
    mean: float | None
    variance: float | None
    """As :func:`signal_variance`."""

    @classmethod
    def of(cls, group: SampleGroup, place: slice = slice(None)) -> Draw:
        """The samples at this place of the group."""
        completions, verdicts = group.completions_G[place], group.verdicts_G[place]
        rewards = [verdict.reward for verdict in verdicts if verdict.reward is not None]
        if not rewards:
            return cls(group, completions, rewards, None, None)
        mean = sum(rewards) / len(rewards)
        without_noise = _without_noise(completions, verdicts)
        if without_noise is None:
            without_noise = sum((reward - mean) ** 2 for reward in rewards) / len(rewards)
        return cls(group, completions, rewards, mean, without_noise)


def signal_variance(group: SampleGroup) -> float | None:
    """Variance of rewards at a turn (paper eq. 4). Where each is the mean of a few continuations, their noise is taken
    out: two actions of one value differ by it alone."""
    return Draw.of(group).variance


def _without_noise(completions: Sequence[Completion], verdicts: Sequence[Verdict]) -> float | None:
    """None unless each verdict comes with the rewards of continuations."""
    continued, actions = [], []
    for completion, verdict in zip(completions, verdicts, strict=True):
        if verdict.reward is None:
            continue
        rewards = verdict.details.get("rewards") if verdict.details else None
        if not _are_rewards(rewards):
            return None
        continued.append(rewards)
        actions.append(completion.action)
    return action_variance(continued, actions)


def _are_rewards(value: object) -> TypeGuard[list[float]]:
    """A verifier may put anything into its details. NaN is in no interval."""
    return isinstance(value, list) and all(type(item) in (int, float) and 0 <= item <= 1 for item in value)
