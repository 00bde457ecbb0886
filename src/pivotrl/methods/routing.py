"""Routing: imitate where no sample passes, learn from differences where outcomes are mixed, else do nothing."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

from pivotrl.options import Positive
from pivotrl.protocols import ObjectiveName, TrainingGroup
from pivotrl.training import Lesson, Step, TrainingOptions
from pivotrl.training_options import require_groups


@dataclass(frozen=True, kw_only=True)
class Method:
    """Samples G actions at each turn and verifies them. A turn where none passes is imitated; at every other turn the
    step is PivotRL's, so a turn where all pass teaches nothing.

    An imitated turn counts like G copies of its demonstration, as much as G samples count at another turn. Its failed
    samples do not count.

    Args:
        imitation_weight: advantage of an imitated demonstration. A lone success among G samples has about 1.
    """

    imitation_weight: Positive = 1.0

    title: ClassVar[str] = "imitation or PivotRL, by outcome"
    objective: ClassVar[ObjectiveName] = "policy_gradient"
    verifies: ClassVar[bool] = True
    plays: ClassVar[bool] = False
    acts_at_batch: ClassVar[bool] = True

    def check(self, options: TrainingOptions) -> None:
        require_groups(options)

    def lesson(self, step: Step) -> Lesson:
        """Leaves out and counts turns that should be imitated but whose demonstration cannot be written."""
        samples = step.sample()
        weighed, metrics = step.weigh(samples)
        solved = {group.turn_id for group in samples if any(verdict.outcome == "pass" for verdict in group.verdicts_G)}
        failed = [group.turn for group in weighed if group.turn.id not in solved]
        demonstrations, told = step.demonstrations(failed)
        imitated = [self._imitated(group, step.options.group_size) for group in demonstrations]
        practised = [group for group in weighed if group.turn.id in solved]
        with_signal = [group for group in practised if any(group.advantages_G)]
        metrics |= {**told, "groups/imitated": float(len(imitated)), "groups/with_signal": float(len(with_signal))}
        groups = imitated + (with_signal if step.options.average_over == "signal" else practised)
        teaches = bool(imitated or with_signal) or (bool(groups) and step.options.kl_coefficient > 0)
        return Lesson(groups, teaches, metrics)

    def _imitated(self, group: TrainingGroup, group_size: int) -> TrainingGroup:
        """The first pass of the policy gradient takes the policy itself as the old one: the ratio is 1, and the
        gradient is the weight times that of the log-likelihood, though nobody sampled the demonstration."""
        (shown,) = group.completions_G
        unknown = shown.model_copy(update={"logprobs_T": (math.nan,) * len(shown.token_ids_T)})
        return dataclasses.replace(
            group, completions_G=[unknown] * group_size, advantages_G=[self.imitation_weight] * group_size
        )
