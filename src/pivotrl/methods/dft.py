"""DFT: imitate the demonstrated action, each token weighted by the policy's own probability of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pivotrl.options import refuse
from pivotrl.protocols import ObjectiveName
from pivotrl.training import Lesson, Step, TrainingOptions


@dataclass(frozen=True, kw_only=True)
class Method:
    """Like ``sft``, but a token that the policy finds unlikely pulls less (DFT, arXiv 2508.05629). The weight is the
    probability under the current policy, without gradient.

    ``--kl-coefficient`` anchors the policy to its reference, as in ASFT (arXiv 2509.23753). The KL is estimated on the
    demonstrated tokens alone, while ASFT sums it over the whole vocabulary.
    """

    title: ClassVar[str] = "weighted imitation (DFT)"
    objective: ClassVar[ObjectiveName] = "weighted_likelihood"
    verifies: ClassVar[bool] = False
    plays: ClassVar[bool] = False

    def check(self, options: TrainingOptions) -> None:
        if options.importance_cap is not None:
            refuse("importance_cap", options.importance_cap, "does nothing when imitating (--method dft); leave it out")

    def lesson(self, step: Step) -> Lesson:
        """Leaves out and counts turns whose demonstrated action the chat template cannot write."""
        groups, metrics = step.demonstrations(step.turns)
        return Lesson(groups, bool(groups), metrics)
