"""Every verifier must pass the action: several conditions at once."""

from __future__ import annotations

from dataclasses import dataclass

from pivotrl.judging.combining import Combined
from pivotrl.protocols import Turn
from pivotrl.records import Action, Verdict
from pivotrl.rollouts import combined_details


@dataclass(frozen=True, kw_only=True)
class AllOf(Combined):
    """Fail when any verifier fails; pass when all pass; else there is no verdict.

    The reward is the lowest given. They are asked in order, cheap ones should come first, and none after a fail
    without any reward.

    Args:
        verifiers: specs such as ``tool_call``; in Python also the verifiers themselves.

    ``details["parts"]`` holds the verdict and details of each verifier. The reason is that of the verdict taken:
    the first one with the outcome and the lowest reward.

    Raises:
        InputError: on creation, ``verifiers`` names none, or one that does not exist.
    """

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        said = self.ask(turn, action, lambda verdict: verdict.outcome == "fail" and verdict.reward == 0.0)
        for outcome in ("fail", "no_verdict", "pass"):
            if found := [verdict for verdict in said if verdict.outcome == outcome]:
                worst = min(found, key=lambda verdict: verdict.reward or 0.0)
                scored = [verdict for verdict in said if verdict.reward is not None and outcome != "no_verdict"]
                lowest = min([worst, *scored], key=lambda verdict: verdict.reward or 0.0)  # its rewards have that mean
                return worst.model_copy(update={"reward": lowest.reward, "details": combined_details(said, lowest)})
        raise AssertionError("load_each leaves no combination empty")


verify = AllOf
