"""Trains in a run directory and kills its own process, as kill -9 does: `tracked_training.py RUN TRACKER SAMPLINGS`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from pivotrl import TrainingOptions, plugins
from pivotrl.judging.lint import CheckOptions
from pivotrl.policies.tabular import Policy
from pivotrl.protocols.observing import Observer
from pivotrl.stages.training import train_stage
from pivotrl.verifiers.exact import verify

OPTIONS = TrainingOptions(num_steps=9, turns_per_step=4, group_size=4, learning_rate=0.5, checkpoint_every=3)


class Shot(Policy):
    def __init__(self, after: int) -> None:
        super().__init__()
        self._left = after

    def sample(self, *arguments: Any, **options: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().sample(*arguments, **options)


def train(run: Path, observer: Observer, policy: Policy | None = None, **options: Any) -> None:
    checking = CheckOptions(max_false_pass=1.0)
    train_stage(
        run,
        policy=policy or Policy(),
        verifier=verify,
        training=OPTIONS,
        checking=checking,
        observer=observer,
        **options,
    )


if __name__ == "__main__":
    train(Path(sys.argv[1]), plugins.load("trackers", sys.argv[2]), Shot(int(sys.argv[3])))
