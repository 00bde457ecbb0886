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

    def check(self, options: TrainingOptions) -> None:
        require_groups(options)

    def lesson(self, step: Step) -> Lesson:
        """The groups, with nothing to learn if rewards do not differ and there is no KL term."""
        groups, metrics = step.weigh(step.sample())
        with_signal = [group for group in groups if any(group.advantages_G)]
        if step.options.average_over == "signal":
            return Lesson(with_signal, bool(with_signal), metrics)
        teaches = bool(with_signal) or (bool(groups) and step.options.kl_coefficient > 0)
        return Lesson(groups, teaches, metrics)
