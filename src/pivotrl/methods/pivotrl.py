"""PivotRL: the current policy acts at pivots and learns from the differences within each group (equations 5 to 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pivotrl.protocols import ObjectiveName
from pivotrl.training import Lesson, Step, TrainingOptions
from pivotrl.training_options import require_groups


@dataclass(frozen=True, kw_only=True)
class Method:
    """Samples G actions at each turn, verifies them, and weighs each by its advantage over the others."""

    title: ClassVar[str] = "PivotRL"
    objective: ClassVar[ObjectiveName] = "policy_gradient"
    verifies: ClassVar[bool] = True
    plays: ClassVar[bool] = False
    acts_at_batch: ClassVar[bool] = True

    def check(self, options: TrainingOptions) -> None:
        require_groups(options)

    def lesson(self, step: Step) -> Lesson:
        return step.practise(step.sample())
