"""What is compared: a training method, the turns it trains on, and its reward."""

from __future__ import annotations

from dataclasses import dataclass

from pivotrl.options import InputError
from pivotrl.selection import Rule


@dataclass(frozen=True)
class First:
    """What an arm trains with before its own method; its cost counts."""

    arm: Arm
    rate: float
    num_steps: int


@dataclass(frozen=True)
class Arm:
    """A training method on a choice of turns. Learning rate and seed come from the grid."""

    title: str
    method: str = "pivotrl"
    """Training method with options, as for ``--method``."""
    rule: Rule | None = None
    """Which profiled turns are trained on; None: all turns, and no profile is drawn or paid for."""
    exact: bool = False
    """Reward only the demonstrated action itself (the paper's r_strict), in the profile and in training."""
    samples: int | None = None
    """Samples a turn of its profile; None: as the comparison says."""
    adaptive: float | None = None
    """Its profile is adaptive with this F1 score as its target, and takes at most ``samples`` a turn."""
    first: First | None = None
    """A training that goes before, such as a little imitation."""


ARMS = {
    "imitation": Arm("imitation", "sft"),
    "imitation_pivots": Arm("imitation, pivots only", "sft", "mixed"),
    "weighted_imitation": Arm("weighted imitation (DFT)", "dft"),
    "self_imitation": Arm("self-imitation, fresh", "self_imitation", "mixed"),
    "self_imitation_once": Arm("self-imitation, once", "self_imitation(of='reference')", "mixed"),
    "pivots": Arm("PivotRL", rule="mixed"),
    "pivots_published": Arm("PivotRL, filter of the published run", rule="mean_only"),
    "pivots_exact": Arm("PivotRL, exact reward", rule="mixed", exact=True),
    "random": Arm("PivotRL, random turns", rule="random"),
    "all": Arm("PivotRL, all turns", rule="all"),
    "all_exact": Arm("PivotRL, all turns, exact reward", rule="all", exact=True),
    "lazy": Arm("PivotRL, lazy profile", "lazy"),
    "routing": Arm("routing by outcome", "routing", "all"),
    "own_states": Arm("own-state pivots", "own_states"),
    "end_to_end": Arm("end-to-end RL", "episodes"),
}
"""The arms that the command line knows by name."""


def arms_named(names: list[str] | tuple[str, ...]) -> dict[str, Arm]:
    """
    Raises:
        InputError: no arm has this name.
    """
    for name in names:
        if name not in ARMS:
            raise InputError(f"there is no arm {name!r} to compare; choose from {', '.join(ARMS)}")
    return {name: ARMS[name] for name in names}
