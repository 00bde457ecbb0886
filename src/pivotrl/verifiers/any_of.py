"""One of several verifiers must pass the action: several ways to be right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pivotrl.plugins import load_each
from pivotrl.protocols import Turn, Verifier
from pivotrl.records import Action, Verdict
from pivotrl.rollouts import combined_details


@dataclass(frozen=True, kw_only=True)
class AnyOf:
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

    verifiers: Sequence[str | Verifier]

    concurrent: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "verifiers", load_each("verifiers", self.verifiers))

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        said: list[Verdict] = []
        for verify in self.verifiers:
            assert callable(verify)
            said.append(verify(turn, action))
            if said[-1].outcome == "pass" and said[-1].reward == 1.0:
                break
        for outcome in ("pass", "no_verdict", "fail"):
            if found := [verdict for verdict in said if verdict.outcome == outcome]:
                best = max(found, key=lambda verdict: verdict.reward or 0.0)
                return best.model_copy(update={"details": combined_details(said, best)})
        raise AssertionError("load_each leaves no combination empty")


verify = AnyOf
