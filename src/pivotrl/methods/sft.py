"""SFT: imitate the demonstrated action at every turn of the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pivotrl.options import refuse
from pivotrl.protocols import ObjectiveName
from pivotrl.training import Lesson, Step, TrainingOptions


@dataclass(frozen=True, kw_only=True)
class Method:
    """Takes the demonstrated action as the only completion of its turn, with weight 1. Needs no samples or verifier."""

    title: ClassVar[str] = "imitation (SFT)"
    objective: ClassVar[ObjectiveName] = "likelihood"
    verifies: ClassVar[bool] = False
    plays: ClassVar[bool] = False

    def check(self, options: TrainingOptions) -> None:
        for name in ("kl_coefficient", "importance_cap"):
            if value := getattr(options, name):
                refuse(name, value, "does nothing when imitating (--method sft); leave it out")

    def lesson(self, step: Step) -> Lesson:
        """Leaves out and counts turns whose demonstrated action the chat template cannot write."""
        groups, metrics = step.demonstrations(step.turns)
        return Lesson(groups, bool(groups), metrics)
