"""Runs many trials, one process per core, and reads their points."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from pivotrl.comparison.points import Point
from pivotrl.comparison.settings import Setting
from pivotrl.comparison.trials import Trial, run_base, run_trial
from pivotrl.protocols import Notice
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.runs.lock import RunLock
from pivotrl.storage.record_files import RecordFile

MakeSetting = Callable[[str], Setting]
"""cell -> its setting; a function of a module, so that other processes can call it."""


def run_grid(
    make_setting: MakeSetting,
    root: Path,
    trials: Sequence[Trial],
    num_workers: int = 1,
    observer: Observer = SILENT,
) -> None:
    """Run every trial that is not finished, in order, and measure the base of every cell and seed.

    Trials are independent. Any number of workers gives the same points but for seconds, if each computes with one
    thread.

    Args:
        num_workers: processes, each with one thread. 1: this process, with its own number of threads.

    Raises:
        InputError: another process works in ``root``, or a trial cannot run.
    """
    with RunLock(root):
        jobs: list[Trial | tuple[str, int]] = []
        for trial in trials:
            if (base := (trial.cell, trial.seed)) not in jobs:
                jobs.append(base)
            jobs.append(trial)
        observer.progress("trials", 0, len(jobs))
        if num_workers == 1:
            made: dict[str, Setting] = {}
            with warnings.catch_warnings():
                warnings.simplefilter("once", Notice)  # not the same notice from every trial
                for done, job in enumerate(jobs, start=1):
                    _run(make_setting, root, job, made)
                    observer.progress("trials", done, len(jobs), _name(job))
            return
        context = multiprocessing.get_context("spawn")
        others = set(multiprocessing.active_children())
        with ProcessPoolExecutor(num_workers, context, _one_thread) as pool:
            running = {pool.submit(_run_apart, make_setting, root, job): job for job in jobs}
            try:
                for done, future in enumerate(as_completed(running), start=1):
                    future.result()
                    observer.progress("trials", done, len(jobs), _name(running[future]))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for worker in set(multiprocessing.active_children()) - others:
                    worker.terminate()  # a Ctrl-C reaches it too, a signal to this process alone does not
                raise


def read_points(root: Path) -> list[Point]:
    """The points of every trial below ``root``, finished or not, in the order of their keys."""
    found = [point for path in root.rglob("points.jsonl") for point in RecordFile(path, Point)]
    return sorted(found, key=lambda point: (point.cell, point.arm, point.rate, point.seed, point.step))


_MADE: dict[str, Setting] = {}
"""The settings of this worker process."""


def _run_apart(make_setting: MakeSetting, root: Path, job: Trial | tuple[str, int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # the same notice from every worker; the trial's files say it
        _run(make_setting, root, job, _MADE)


def _run(make_setting: MakeSetting, root: Path, job: Trial | tuple[str, int], made: dict[str, Setting]) -> None:
    cell = job.cell if isinstance(job, Trial) else job[0]
    if cell not in made:
        made[cell] = make_setting(cell)
    if isinstance(job, Trial):
        run_trial(made[cell], root, job)
    else:
        run_base(made[cell], root, job[1], cell)


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is first imported, which is later in a new process


def _name(job: Trial | tuple[str, int]) -> str:
    return str(job.folder) if isinstance(job, Trial) else f"{job[0]} base, seed {job[1]}"


def crossed(rates: Mapping[str, Sequence[float]], seeds: Iterable[int], checkpoints: tuple[int, ...]) -> list[Trial]:
    """Every arm at each of its rates and every seed; seed by seed, so that an early stop leaves whole seeds.

    Args:
        rates: arm -> learning rates.
    """
    return [Trial(name, rate, seed, checkpoints) for seed in seeds for name in rates for rate in rates[name]]
