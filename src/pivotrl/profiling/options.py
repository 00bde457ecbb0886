"""How the reference policy is sampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from pivotrl.options import AtLeast1, NotNegative, Share, check, flag, refuse
from pivotrl.records import Sampling
from pivotrl.selection import SelectionOptions


@dataclass(frozen=True)
class ProfileOptions:
    """How the reference policy is sampled."""

    num_samples: AtLeast1 = 16
    """K, samples per candidate turn; with --adaptive, the most that a turn gets."""
    temperature: NotNegative = 1.0
    """Temperature at which the profile is sampled."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Only the most probable tokens that together reach this probability are drawn; 1: all."""
    top_k: AtLeast1 | None = None
    """Draw only from the k most probable tokens; None: from all."""
    max_tokens: AtLeast1 = 256
    """Longest action, in tokens; a longer one is cut off and fails."""
    profile_seed: int = 0
    """Seed of the profile's samples."""
    batch_turns: AtLeast1 = 16
    """About how many turns to sample together; turns of one trajectory always are. Results are written after each
    batch."""
    adaptive: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Stop sampling turns once the pivots are expected to agree with those of K samples to this F1 score, such as 0.95.
    None: K samples at every turn."""
    adaptive_max_mean: Share | None = None
    """With --adaptive, the largest mean reward that pivots will be selected with; None: 0.6, or that of the selection
    where one command does both."""
    wanted_pivots: AtLeast1 | None = None
    """With --adaptive, stop once about this many pivots are found; trajectories are then taken in random order."""

    def __post_init__(self) -> None:
        check(self)
        if self.num_samples > 1 and (self.temperature == 0 or self.top_k == 1):
            refuse("num_samples", self.num_samples, "at --temperature 0 or --top-k 1 would repeat one sample")
        for name in ("adaptive_max_mean", "wanted_pivots"):
            if self.adaptive is None and getattr(self, name) is not None:
                refuse(name, getattr(self, name), f"has an effect only with {flag('adaptive')}, such as 0.95")
        if self.adaptive is not None and self.max_mean * self.num_samples <= 1:
            told = (
                f"with a largest mean of {self.max_mean:g} leaves no pivots among turns with {self.num_samples} samples"
            )
            refuse("adaptive", self.adaptive, f"{told}: a single pass is too many. Raise {flag('num_samples')}")

    @property
    def max_mean(self) -> float:
        """Mean reward below which an adaptive profile takes a mixed turn for a pivot."""
        return SelectionOptions.max_mean if self.adaptive_max_mean is None else self.adaptive_max_mean

    @property
    def sampling(self) -> Sampling:
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            max_tokens=self.max_tokens,
            seed=self.profile_seed,
        )
