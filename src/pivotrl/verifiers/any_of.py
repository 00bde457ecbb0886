"""One of several verifiers must pass the action: several ways to be right."""

from __future__ import annotations

from dataclasses import dataclass

from pivotrl.judging.combining import Combined
from pivotrl.protocols import Turn
from pivotrl.records import Action, Verdict
from pivotrl.rollouts import combined_details


@dataclass(frozen=True, kw_only=True)
class AnyOf(Combined):
    """Pass when any verifier passes; fail when all fail; else there is no verdict.

    The reward is the highest of those that passed, of those that failed if none passed. They are asked in order,
    cheap ones should come first, and none after a pass with the full reward.

    Args:
        verifiers: specs such as ``tool_call``; in Python also the verifiers themselves.

    ``details["parts"]`` holds the verdict and details of each verifier. The reason is that of the verdict taken:
    the first one with the outcome and the highest reward.

    Raises:
        InputError: on creation, ``verifiers`` names none, or one that does not exist.
    """

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        said = self.ask(turn, action, lambda verdict: verdict.outcome == "pass" and verdict.reward == 1.0)
        for outcome in ("pass", "no_verdict", "fail"):
            if found := [verdict for verdict in said if verdict.outcome == outcome]:
                best = max(found, key=lambda verdict: verdict.reward or 0.0)
                return best.model_copy(update={"details": combined_details(said, best)})
        raise AssertionError("load_each leaves no combination empty")


verify = AnyOf
