"""Every verifier must pass the action: several conditions at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pivotrl.plugins import load_each
from pivotrl.protocols import Turn, Verifier
from pivotrl.records import Action, Verdict
from pivotrl.rollouts import combined_details


@dataclass(frozen=True, kw_only=True)
class AllOf:
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

    verifiers: Sequence[str | Verifier]

    concurrent: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "verifiers", load_each("verifiers", self.verifiers))

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        said: list[Verdict] = []
        for verify in self.verifiers:
            assert callable(verify)
            said.append(verify(turn, action))
            if said[-1].outcome == "fail" and said[-1].reward == 0.0:
                break
        for outcome in ("fail", "no_verdict", "pass"):
            if found := [verdict for verdict in said if verdict.outcome == outcome]:
                worst = min(found, key=lambda verdict: verdict.reward or 0.0)
                scored = [verdict for verdict in said if verdict.reward is not None and outcome != "no_verdict"]
                lowest = min([worst, *scored], key=lambda verdict: verdict.reward or 0.0)  # its rewards have that mean
                return worst.model_copy(update={"reward": lowest.reward, "details": combined_details(said, lowest)})
        raise AssertionError("load_each leaves no combination empty")


verify = AllOf
