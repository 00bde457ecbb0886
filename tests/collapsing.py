"""A table of action probabilities that collapses: every update also makes the last answer of the menu more likely."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pivotrl.policies.tabular import Policy as Table
from pivotrl.protocols import TrainingGroup, Turn
from pivotrl.records import SampleGroup


class Policy(Table):
    """
    Args:
        pull: added to the logit of the last answer by every update.
        breaks: whether that answer is malformed.
    """

    def __init__(self, *, pull: float = 1.0, breaks: bool = False) -> None:
        super().__init__(spread=0.5)
        self.pull, self.breaks = pull, breaks

    @property
    def description(self) -> dict[str, str]:
        return {"policy": f"collapsing:Policy(pull={self.pull}, breaks={self.breaks})"}

    @property
    def reference(self) -> Policy:
        return Policy(pull=self.pull, breaks=self.breaks)

    def _initial(self, turn_id: str) -> Any:
        logits_M = super()._initial(turn_id)
        logits_M[0] += 2.0  # it begins well
        return logits_M

    def sample(self, turns: Sequence[Turn], *arguments: Any, **options: Any) -> Iterator[SampleGroup]:
        for group in super().sample(turns, *arguments, **options):
            last = self.num_alternatives
            broken = tuple(
                c.model_copy(update={"parse_error": "broken"}) if self.breaks and c.token_ids_T == (last,) else c
                for c in group.completions_G
            )
            yield group.model_copy(update={"completions_G": broken})

    def update(self, groups: Sequence[TrainingGroup], learning_rate: float, options: Any) -> dict[str, float]:
        metrics = super().update(groups, learning_rate, options)
        for group in groups:
            logits_M = self._logits(group.turn.id).copy()
            logits_M[-1] += self.pull
            self._trained[group.turn.id] = logits_M
        return metrics
