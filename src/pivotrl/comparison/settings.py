"""The setting: everything that all arms of a comparison share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pivotrl.comparison.measuring import HeldOutItems, Measuring
from pivotrl.profiling import ProfileOptions
from pivotrl.protocols import Environments, Policy, Turn, Verifier
from pivotrl.selection import SelectionOptions
from pivotrl.training import TrainingOptions


@dataclass(frozen=True)
class Setting:
    """What the arms of a comparison share. Functions of the seed let every seed have data of its own."""

    make_policy: Callable[[int], Policy]
    """seed -> a fresh policy, the same for every arm of the seed."""
    turns: Callable[[int], Sequence[Turn]]
    """seed -> candidate turns of the demonstrations."""
    verifier: Verifier
    held_out: HeldOutItems
    training: TrainingOptions
    """Defaults of every arm; method, rate, seed and number of steps come from the trial."""
    exact_verifier: Verifier | None = None
    """Rewards only the demonstrated action, for arms with ``exact``."""
    profiling: ProfileOptions = field(default_factory=ProfileOptions)
    selection: SelectionOptions = field(default_factory=SelectionOptions)
    measuring: Measuring = field(default_factory=Measuring)
    train_environments: Callable[[int], Mapping[str, Environments]] | None = None
    """seed -> tasks to play, for arms that play."""
