"""A method: learn from the samples that did better than the others of their group, and ignore the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from pivotrl.options import refuse
from pivotrl.protocols import ObjectiveName
from pivotrl.training import Lesson, Step, TrainingOptions


@dataclass(frozen=True, kw_only=True)
class Method:
    title: ClassVar[str] = "positive advantages only"
    objective: ClassVar[ObjectiveName] = "policy_gradient"
    verifies: ClassVar[bool] = True
    plays: ClassVar[bool] = False

    above: float = 0.0
    """Samples whose advantage is higher are learned from."""

    def check(self, options: TrainingOptions) -> None:
        if options.group_size == 1:
            refuse("group_size", 1, "gives no advantage: a group of one has nothing to differ from; give at least 2")

    def lesson(self, step: Step) -> Lesson:
        groups, metrics = step.weigh(step.sample())
        kept = []
        for group in groups:
            pairs = zip(group.completions_G, group.advantages_G, strict=True)
            better = [(completion, advantage) for completion, advantage in pairs if advantage > self.above]
            if better:
                completions_G, advantages_G = zip(*better, strict=True)
                kept.append(replace(group, completions_G=completions_G, advantages_G=advantages_G))
        metrics["samples/kept"] = float(sum(len(group.completions_G) for group in kept))
        return Lesson(kept, bool(kept), metrics)
