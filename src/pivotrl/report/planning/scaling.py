"""How long a step takes in many processes, simulated from what was measured in few.

The work of a step is dealt as :mod:`pivotrl.engine.distributed.dealing` deals it, from the costs of real trajectories.
So the main loss, processes that wait for the one with the most work, is not assumed but computed. Added to it is what
does not become less with more processes, and what they exchange.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from pivotrl.engine.distributed.dealing import deal
from pivotrl.options import InputError

IGNORED = (
    "processes that compete for memory, caches or clock rates of one machine",
    "processes of different speed, and faults",
    "the topology of the network: every link is as fast as the one that was measured",
    "exchange that runs beside computation (there is none: processes gather before a pass and sum after it)",
    "smaller batches in each process, which may use a device less well",
    "samples that end early, which only shows after the work was dealt",
    "verifiers, files and whatever else process 0 does, unless it is in the serial seconds",
)
"""What the simulation leaves out."""


@dataclass(frozen=True)
class Line:
    """Seconds of a kind of work: a part for each process, whatever it does, and a part for each unit of cost."""

    fixed: float
    each: float

    @classmethod
    def through(cls, small: tuple[float, float], large: tuple[float, float]) -> Line:
        """
        Args:
            small, large: (cost, seconds) of two measurements.

        Raises:
            InputError: the costs do not differ.
        """
        if large[0] <= small[0]:
            raise InputError(f"two measurements must differ in cost, not {small[0]:g} and {large[0]:g}")
        each = max(0.0, (large[1] - small[1]) / (large[0] - small[0]))
        return cls(max(0.0, small[1] - each * small[0]), each)

    def seconds(self, cost: float) -> float:
        """A process without work does not begin."""
        return self.fixed + self.each * cost if cost else 0.0


@dataclass(frozen=True)
class Measured:
    """Times of one process, and of the exchange between two."""

    sampling: Line
    learning: Line
    """Forwards and backwards of an update."""
    optimizer: float
    """Seconds of the optimizer step over all trained weights in one process."""
    gathered_bytes: float
    """Whole weights, gathered once for each update."""
    summed_bytes: float
    """Gradients."""
    messages: int
    """Exchanges for each gather or sum: one for each layer."""
    bandwidth: float
    """Bytes a second that a process sends and takes."""
    latency: float
    """Seconds of an empty exchange between two."""
    serial: float = 0.0
    """Seconds of a step in process 0 alone."""


@dataclass(frozen=True)
class Step:
    """Seconds of a step, and where they go."""

    processes: int
    sampling: float
    learning: float
    optimizer: float
    exchange: float
    serial: float
    busiest: float
    """Work of the process with the most, divided by the mean."""

    @property
    def seconds(self) -> float:
        return self.sampling + self.learning + self.optimizer + self.exchange + self.serial


def step_of(measured: Measured, costs: Sequence[float], sampled: Sequence[float], processes: int) -> Step:
    """One step.

    Args:
        costs: of each trajectory to learn from.
        sampled: the same, to sample at.
    """
    learning, busiest = _shares(costs, processes)
    sampling, _ = _shares(sampled, processes)
    return Step(
        processes=processes,
        sampling=max(map(measured.sampling.seconds, sampling)),
        learning=max(map(measured.learning.seconds, learning)),
        optimizer=measured.optimizer / processes,
        exchange=exchange_seconds(measured, processes),
        serial=measured.serial,
        busiest=busiest,
    )


def exchange_seconds(measured: Measured, processes: int) -> float:
    """One gather and one sum, in a ring: ``(N - 1) / N`` of the bytes pass each process, in ``N - 1`` hops."""
    if processes == 1:
        return 0.0
    share = (processes - 1) / processes
    bytes_seconds = share * (measured.gathered_bytes + measured.summed_bytes) / measured.bandwidth
    return bytes_seconds + 2 * measured.messages * (processes - 1) * measured.latency


def simulate(
    measured: Measured,
    costs: Sequence[float],
    sampled: Sequence[float],
    processes: int,
    trajectories: int,
    num_steps: int = 50,
    seed: int = 0,
) -> Step:
    """The mean of steps whose trajectories are drawn from those that were seen, with replacement.

    Args:
        trajectories: in a step.

    Raises:
        InputError: there are no costs, or not one for each trajectory in both lists.
    """
    if not costs or len(costs) != len(sampled):
        raise InputError(f"{len(costs)} and {len(sampled)} costs are not of the same trajectories")
    generator = random.Random(seed)  # noqa: S311
    steps = []
    for _ in range(num_steps):
        drawn = [generator.randrange(len(costs)) for _ in range(trajectories)]
        steps.append(step_of(measured, [costs[i] for i in drawn], [sampled[i] for i in drawn], processes))
    return Step(
        processes=processes,
        **{name: math.fsum(getattr(step, name) for step in steps) / num_steps for name in _AVERAGED},
    )


_AVERAGED = ("sampling", "learning", "optimizer", "exchange", "serial", "busiest")


def _shares(costs: Sequence[float], processes: int) -> tuple[list[float], float]:
    """(cost of each process, that of the busiest divided by the mean)."""
    shares = [math.fsum(costs[piece] for piece in mine) for mine in deal(costs, processes)]
    return shares, max(shares) * processes / math.fsum(shares)
