"""Samples of a training step that another engine draws: each turn's are on disk as soon as they arrive.

They may be drawn a step ahead, while the update of the step before runs. Each group keeps the version of the weights
that drew it; what was drawn by too old a version is refused. A killed training asks again only for what was under way.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from pivotrl.options import flag
from pivotrl.plugins.shapes import sampled
from pivotrl.protocols import InputError, Policy, PublishesVersions, Sampler, Turn
from pivotrl.records import SampleGroup, Sampling
from pivotrl.rollouts import storable
from pivotrl.storage.record_files import RecordFile
from pivotrl.training_options import TrainingOptions

_GONE = "server_unavailable"
"""The fault of a group that the server may still draw, once it is back."""


class StepDraws:
    """
    Args:
        folder: holds one file per step until its groups are judged and stored.
        max_lag: how many updates the weights that drew a group may be behind its step.
    """

    def __init__(self, policy: PublishesVersions, folder: Path, max_lag: int) -> None:
        self._policy, self._folder, self._max_lag = policy, folder, max_lag
        self._work: _Work | None = None

    def begin(self, step: int, turns: Sequence[Turn], num_samples: int, sampling: Sampling, version: int) -> None:
        """Draw the samples of a step that are not on disk, with the present weights, and return at once. Only then may
        the policy be updated.

        Args:
            version: number of the present weights: updates behind them.
        """
        assert self._work is None, "one step is drawn at a time"
        file = self._file(step)
        missing = [turn for turn in turns if f"{step}/{turn.id}" not in file]
        if missing:
            sampler = self._policy.publish(version, missing)
            self._work = _Work(step, file, sampler, missing, num_samples, sampling, self._policy.max_in_flight)

    def take(self, step: int, turns: Sequence[Turn], num_samples: int, sampling: Sampling) -> list[SampleGroup]:
        """The groups of a step, without verdicts, as soon as all are there. What was not begun is drawn now.

        Raises:
            InputError: the engine is gone or out of order, or a group is too old.
        """
        self._wait()
        self.begin(step, turns, num_samples, sampling, version=step)
        self._wait()
        file = self._file(step)
        groups = [file.get(f"{step}/{turn.id}") for turn in turns]
        for group in groups:
            lag = 0 if group.version is None else step - group.version
            if not 0 <= lag <= self._max_lag:
                raise InputError(
                    f"{file.path}: the samples of {group.turn_id} for step {step} come from weights of version "
                    f"{group.version}, {lag} updates behind, and --max-lag allows {self._max_lag}. Allow them with "
                    f"--max-lag {max(lag, 1)}, or delete the file to sample the step again"
                )
        return groups

    def forget(self, step: int) -> None:
        """The groups of the step are stored elsewhere now."""
        self._file(step).path.unlink(missing_ok=True)

    def __enter__(self) -> StepDraws:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Take no more samples; after the last step nothing on disk is needed any more."""
        if self._work is not None:
            self._work.stop()
            self._work = None
        if kind is None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _wait(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work.finish()

    def _file(self, step: int) -> RecordFile[SampleGroup]:
        return RecordFile(self._folder / f"step_{step:06d}.jsonl", SampleGroup)


class _Work:
    """Samples turns in threads, and appends each group to the file."""

    def __init__(
        self,
        step: int,
        file: RecordFile[SampleGroup],
        sampler: Sampler,
        turns: Sequence[Turn],
        num_samples: int,
        sampling: Sampling,
        max_threads: int,
    ) -> None:
        self._step, self._file, self._sampler = step, file, sampler
        self._asked = num_samples, sampling
        self._queue = SimpleQueue[Turn]()
        for turn in turns:
            self._queue.put(turn)
        self._lock, self._is_stopped = threading.Lock(), False
        self._error: BaseException | None = None
        # Daemons: a command that ends does not wait for a server that hangs.
        self._threads = [
            threading.Thread(target=self._run, daemon=True, name=f"draws-{number}")
            for number in range(min(max_threads, len(turns)))
        ]
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """
        Raises:
            BaseException: what a thread raised first. The others have stored what they were sampling.
        """
        for thread in self._threads:
            thread.join()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Store nothing more; what is under way is lost."""
        with self._lock:
            self._is_stopped = True

    def _run(self) -> None:
        while self._error is None and not self._is_stopped:
            try:
                turn = self._queue.get_nowait()
            except Empty:
                return
            try:
                self._draw(turn)
            except BaseException as error:  # raised again where the samples are taken
                self._error = self._error or error

    def _draw(self, turn: Turn) -> None:
        (group,) = sampled(self._sampler, [turn], *self._asked)
        if group.fault == _GONE:
            raise InputError(
                f"the server is gone: it gave no samples at {turn.id} for step {self._step} before the deadline. What "
                "arrived is kept; start the server again and repeat the command"
            )
        completions = tuple(map(storable, group.completions_G))
        with self._lock:
            if not self._is_stopped:
                self._file.append([group.model_copy(update={"step": self._step, "completions_G": completions})])


def draws_of(policy: Policy, folder: Path, options: TrainingOptions) -> StepDraws | None:
    """How another engine draws for the policy; None if the policy draws itself.

    Raises:
        InputError: it draws itself, and so cannot draw ahead.
    """
    learning: Any = getattr(policy, "loaded", policy)
    if isinstance(learning, PublishesVersions):
        return StepDraws(learning, folder, options.max_lag)
    if options.sample_ahead:
        raise InputError(
            f"{flag('sample_ahead')} needs a policy whose samples another engine draws: --policy vllm(...)"
        )
    return None
