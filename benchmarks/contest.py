"""Contestants that do the same work: made ready, tuned, warmed up, timed in turns, probed, and set in rows."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from measuring import NotAvailable, count_and_peak, in_own_process, interleave, ratio_interval, seconds

Run = Callable[[int], object]
"""Does the work once; the argument is the number of the repetition, negative while warming up."""


@dataclass(frozen=True)
class Contestant:
    name: str
    prepare: Callable[[int], Run]
    """Micro-batch size -> run. Raises NotAvailable."""
    predicted_flops: float
    sizes: Sequence[int] = (0,)
    """Micro-batch sizes to choose from."""
    trial: Callable[[int], Run] | None = None
    """A smaller piece of the same work, to tune on; None tunes on the work itself."""
    countable: bool = True
    """Whether its work happens in this process, where FLOPs and memory can be read."""


def choose_size(contestant: Contestant, fixed: int | None, device: torch.device) -> int:
    """The fastest micro-batch of those that fit in memory.

    Raises:
        NotAvailable: the contestant cannot run, or memory holds none of the sizes.
    """
    if fixed is not None or len(contestant.sizes) == 1:
        return contestant.sizes[0] if fixed is None else fixed
    make = contestant.trial or contestant.prepare
    times: dict[int, float] = {}
    for size in contestant.sizes:
        try:
            run = make(size)
            if not times:  # the first run of all wakes the kernels up
                run(-1)
            times[size] = seconds(lambda: run(-1), device)  # noqa: B023  # called at once
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
    if not times:
        raise NotAvailable("out of memory with every micro-batch")
    return min(times, key=lambda size: times[size])


def compare(
    contestants: Sequence[Contestant],
    base: str,
    device: torch.device,
    repetitions: int,
    warmups: int,
    fixed: Mapping[str, int],
    bound_seconds: float,
    between: Callable[[], object],
    after_warmup: Callable[[str], dict[str, Any]] | None = None,
    probe: Callable[[str, int], Sequence[str]] | None = None,
) -> list[dict[str, Any]]:
    """One row per contestant.

    Args:
        base: ratios are times over the times of this one, or of the first that runs.
        bound_seconds: no method can be faster on this machine.
        after_warmup: more columns, from what the warm-up left behind (gradients); there is one at least then.
        probe: arguments for this script to measure one contestant in a process of its own.
    """
    rows: dict[str, dict[str, Any]] = {}
    runs: dict[str, Run] = {}
    for contestant in contestants:
        row = rows[contestant.name] = {"name": contestant.name, "predicted_flops": contestant.predicted_flops}
        try:
            row["micro_batch"] = choose_size(contestant, fixed.get(contestant.name), device)
            run = contestant.prepare(row["micro_batch"])
            for _ in range(warmups if after_warmup is None else max(warmups, 1)):
                between()
                run(-1)
            row |= {} if after_warmup is None else after_warmup(contestant.name)
        except NotAvailable as reason:
            row["reason"] = str(reason)
            continue
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            row["reason"] = "out of memory"
            continue
        runs[contestant.name] = run
        print(f"{contestant.name}: ready, micro-batch {row['micro_batch']}", file=sys.stderr, flush=True)
    times = interleave(runs, repetitions, device, between)
    base = base if base in times else next(iter(times), "")
    for contestant in contestants:
        row = rows[contestant.name]
        if contestant.name not in times:
            continue
        own, other = times[contestant.name], times[base]
        row |= {"seconds": own, "median_seconds": statistics.median(own), "ratio": ratio_interval(own, other)}
        row["predicted_ratio"] = contestant.predicted_flops / rows[base]["predicted_flops"]
        row["base"] = base
        row["fraction_of_bound"] = bound_seconds / row["median_seconds"]
        if probe is not None and contestant.countable:
            row |= in_own_process(probe(contestant.name, row["micro_batch"]))
    return list(rows.values())


def probe_one(contestant: Contestant, size: int, device: torch.device, small: Callable[[], object]) -> dict[str, Any]:
    """Counted FLOPs and peak memory of one run; ``small`` warms the process up first."""
    run = contestant.prepare(size)
    small()
    flops, peak = count_and_peak(lambda: run(-1), device)
    # The counter sees this thread only: nothing counted means the work was done in another.
    return {"peak_bytes": peak} | ({"flops": flops} if flops else {})
