"""What befell samples before they could teach or measure anything: cut off, malformed, or judged by nobody.

Said where it happens, and again in the report, when it befell most of them: the cause lies in an option or a verifier
then, not in the policy.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from pivotrl.protocols import Notice
from pivotrl.records import SampleGroup, TurnResult


@dataclass(frozen=True)
class SampleFaults:
    """Numbers of samples."""

    total: int = 0
    cut_off: int = 0
    malformed: int = 0
    without_verdict: int = 0

    @classmethod
    def of(cls, groups: Iterable[SampleGroup]) -> SampleFaults:
        listed = list(groups)
        return cls(
            total=sum(len(group.completions_G) for group in listed),
            cut_off=sum(group.num_cut_off for group in listed),
            malformed=sum(group.num_malformed for group in listed),
            without_verdict=sum(len(group.verdicts_G) - len(group.rewards) for group in listed),
        )

    @classmethod
    def of_results(cls, results: Iterable[TurnResult]) -> SampleFaults:
        """Of held-out turns, where a turn without a verdict stands for all of its samples."""
        listed = list(results)
        return cls(
            total=sum(result.num_samples for result in listed),
            cut_off=sum(result.num_cut_off for result in listed),
            without_verdict=sum(result.num_samples for result in listed if result.reward is None),
        )

    def complaint(self, limit: str) -> str | None:
        """What befell most samples, with its remedy; None when nothing did.

        Args:
            limit: the flag that bounds the tokens of a sample, such as ``--max-tokens``.
        """
        for number, words in (
            (self.cut_off, f"were cut off before they ended, and so failed: raise {limit}"),
            (self.malformed, "are no well-formed action, and so failed: look at them with `pivotrl show`"),
            (self.without_verdict, "got no verdict: look at the reasons with `pivotrl show`"),
        ):
            if 2 * number > self.total > 0:
                return f"{number:,} of {self.total:,} samples {words}"
        return None

    def warn(self, limit: str) -> bool:
        """Tell :meth:`complaint` as a notice; whether there was one."""
        told = self.complaint(limit)
        if told is not None:
            warnings.warn(told, Notice, stacklevel=2)
        return told is not None
