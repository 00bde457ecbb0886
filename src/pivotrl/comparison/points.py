"""The point: one checkpoint of one training, measured."""

from __future__ import annotations

from pydantic import Field

from pivotrl.records import Record


class Costs(Record):
    """What a training has cost up to a checkpoint, its profile included. None: not counted by the method."""

    rollout_turns: int = 0
    """Sampled actions: profile, training, and continuations by the verifier."""
    profile_turns: int = 0
    """Of these, in the profile."""
    prefilled_tokens: int | None = 0
    """Prompt tokens that were computed to sample."""
    decoded_tokens: int = 0
    """Sampled tokens."""
    trained_tokens: int = 0
    """Tokens of forward and backward passes."""
    seconds: float = 0.0
    """Sampling, verifying and updating; not measuring."""


class Point(Record):
    """What a policy is worth after ``step`` updates: the mean of each measure for each cluster.

    Measures (:mod:`pivotrl.comparison.measuring`) are named like ``turns/greedy``; a cluster is a held-out task or a
    reference text. An item without a value is left out: unknown is not 0.
    """

    cell: str = ""
    """The setting, where a grid has several."""
    arm: str
    rate: float
    seed: int
    step: int
    costs: Costs = Field(default_factory=Costs)
    values: dict[str, dict[str, float]]

    @property
    def key(self) -> str:
        return f"{self.cell}/{self.arm}/{self.rate:g}/{self.seed}/{self.step}"


BASE = "base"
"""The arm of the policy before any training; rate 0, step 0."""
