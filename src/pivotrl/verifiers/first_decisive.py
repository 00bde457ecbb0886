"""Ask verifiers one after another until one decides: cheap ones first, a judge or an execution last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pivotrl.judging.combining import Combined
from pivotrl.protocols import Turn
from pivotrl.records import Action, Verdict
from pivotrl.rollouts import combined_details


@dataclass(frozen=True, kw_only=True)
class FirstDecisive(Combined):
    """The first pass or fail. A verifier without a verdict hands the action on to the next.

    A fail ends it like a pass, unless its reason is one of ``go_on_after``: then the action may still be as right as
    the expected one, and the next verifier is asked. So a judge sees only what a comparison of text left open:
    ``first_decisive(verifiers=("tool_call", "judge(model='m')"), go_on_after=("different_text",))``. When none of
    those asked afterwards decides, there is no verdict, since whether it is as right stays unknown. Of the last
    verifier every fail stands.

    Args:
        verifiers: specs such as ``tool_call``; in Python also the verifiers themselves.
        go_on_after: reasons for a fail after which the next verifier is still asked.

    ``details["parts"]`` holds the verdict and details of each verifier; outcome, reward and reason are the
    deciding one's. Without a decision: undecided.

    Raises:
        InputError: on creation, ``verifiers`` names none, or one that does not exist.
    """

    go_on_after: Sequence[str] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        reasons = (self.go_on_after,) if isinstance(self.go_on_after, str) else tuple(self.go_on_after)
        object.__setattr__(self, "go_on_after", reasons)

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        said = self.ask(turn, action, self._decides)
        verdict = said[-1]
        if verdict.outcome == "no_verdict":
            return Verdict.unknown("undecided", **combined_details(said, None))
        return verdict.model_copy(update={"details": combined_details(said, verdict)})

    def _decides(self, verdict: Verdict) -> bool:
        is_open = verdict.outcome == "fail" and verdict.reason in self.go_on_after
        return verdict.outcome != "no_verdict" and not is_open


verify = FirstDecisive
