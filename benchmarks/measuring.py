"""Times, ratios, memory and the machine: measured the same way in every benchmark.

Contestants take turns in ABBA order within one process, so that drift of the machine meets all of them alike. Ratios
carry a bootstrap interval over repetitions. Peak memory is taken in a process of its own per contestant.
"""

from __future__ import annotations

import datetime
import functools
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flop_count import count_flops

_PACKAGES = ("torch", "transformers", "peft", "trl", "prefix-grouper", "flash-attn")


class NotAvailable(Exception):
    """A contestant cannot run here; the message says why."""


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def interleave(
    contestants: Mapping[str, Callable[[int], object]],
    repetitions: int,
    device: torch.device,
    between: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds of each contestant and repetition, in ABBA order; ``between`` runs untimed before each.

    A contestant is called with the number of the repetition, so that it can take fresh data where a cache might help.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for repetition in range(repetitions):
        for name in names if repetition % 2 == 0 else reversed(names):
            between()
            gc.collect()  # nobody pays for another's garbage
            taken = seconds(functools.partial(contestants[name], repetition), device)
            print(f"{repetition + 1}/{repetitions} {name}: {taken:.3g} s", file=sys.stderr, flush=True)
            times[name].append(taken)
    return times


def ratio_interval(
    times: Sequence[float], base: Sequence[float], resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """(ratio of medians, low, high): 95 % bootstrap over repetitions, which are paired.

    Raises:
        ValueError: no repetition, or the two have not the same number.
    """
    if not times or len(times) != len(base):
        raise ValueError(f"{len(times)} and {len(base)} repetitions cannot be paired")
    drawn = np.random.default_rng(seed).integers(len(times), size=(resamples, len(times)))
    ratios = np.median(np.asarray(times)[drawn], axis=1) / np.median(np.asarray(base)[drawn], axis=1)
    low, high = (float(bound) for bound in np.quantile(ratios, (0.025, 0.975)))
    return statistics.median(times) / statistics.median(base), low, high


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Highest memory during ``work()`` above what was held before it.

    On the CPU: resident memory of this process, so run one contestant per process and let it warm up on something
    small first.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back to the present size
    before = _status_bytes("VmRSS")
    work()
    return max(_status_bytes("VmHWM") - before, 0)


def resident() -> int:
    """Bytes that this process holds now."""
    return _status_bytes("VmRSS")


def peak_since() -> int:
    """The most bytes that this process held since it was asked last."""
    gc.collect()
    peak = _status_bytes("VmHWM")
    Path("/proc/self/clear_refs").write_text("5")
    return peak


def _status_bytes(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key}")


def in_own_process(arguments: Sequence[str]) -> dict[str, Any]:
    """Run this script again with ``arguments``; the last line it prints is the answer, as JSON.

    A process that fails, for instance for want of memory, answers {"error": its last line}.
    """
    command = [sys.executable, sys.argv[0], *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if result.returncode:
        last = (result.stderr.strip().splitlines() or [f"ended by signal {-result.returncode}"])[-1]
        return {"error": last}
    answer: dict[str, Any] = json.loads(result.stdout.strip().splitlines()[-1])
    return answer


def peak_flops(device: torch.device, dtype: torch.dtype, size: int = 2048, tries: int = 7) -> float:
    """FLOP/s of a square matrix product on this machine with the present threads: the best of several."""
    size = 8192 if device.type == "cuda" else size
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = min(seconds(lambda: left @ right, device) for _ in range(tries))
    return 2.0 * size**3 / best


def bandwidth(device: torch.device, tries: int = 7) -> float:
    """Bytes/s of reading: a sum over an array that no cache holds."""
    count = 2**30 if device.type == "cuda" else 2**26
    data = torch.ones(count, device=device)
    best = min(seconds(data.sum, device) for _ in range(tries))
    return count * data.element_size() / best


def machine(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What a reader must know to judge the numbers."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "dtype": str(dtype).removeprefix("torch."),
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def count_and_peak(work: Callable[[], object], device: torch.device) -> tuple[float, int]:
    """(FLOPs, peak bytes) of one and the same run."""
    counted = 0.0

    def counting() -> None:
        nonlocal counted
        counted = count_flops(work)

    peak = peak_bytes(counting, device)
    return counted, peak
