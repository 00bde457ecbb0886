"""Writes runs of Weights & Biases, offline unless asked otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pivotrl.plugins.extras import load_package
from pivotrl.runs.tracking import StageTracker, TrackedStage, Value


class Tracker(StageTracker):
    """Each stage is a run of W&B; the runs of one directory are a group.

    Offline, nothing leaves the machine; ``wandb sync`` sends a finished run. A run that resumes offline is written anew
    from its beginning, since W&B cannot continue a file; the former file moves to ``wandb/superseded``. Neither code
    nor console output is recorded.

    Args:
        project: of W&B.
        entity: the user or team; "" is the default of the account.
        mode: ``online`` sends while the run goes on. None: as the environment variable WANDB_MODE says, or offline.
        directory: where to write; "" is ``wandb/`` in the directory of the run.
        group: of the runs; "" is the name of the directory.
        tags: of the runs, separated by commas.
        timeout_seconds: how long the beginning and the end of a run may wait for the server.

    Raises:
        InputError: the package is missing.
    """

    def __init__(
        self,
        *,
        project: str = "pivotrl",
        entity: str = "",
        mode: Literal["offline", "online", "disabled"] | None = None,
        directory: str = "",
        group: str = "",
        tags: str = "",
        timeout_seconds: float = 30.0,
    ) -> None:
        self._named = {"project": project, "entity": entity or None, "tags": [t for t in tags.split(",") if t] or None}
        self._directory_given, self._group, self._timeout = directory, group, timeout_seconds
        self._mode = mode or os.environ.get("WANDB_MODE") or "offline"
        if self._mode != "online":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would connect all the same
        self._wandb = load_package("wandb", "the tracker 'wandb'")

    def begin(self, stage: TrackedStage) -> int:
        folder = Path(self._directory_given) if self._directory_given else stage.directory or Path()
        folder.mkdir(parents=True, exist_ok=True)
        if self._mode != "online":
            for former in folder.glob(f"wandb/offline-run-*-{stage.id}"):
                (folder / "wandb" / "superseded").mkdir(exist_ok=True)
                former.rename(folder / "wandb" / "superseded" / former.name)
        settings = self._wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            x_transaction_log_flush_interval=1.0,
            save_code=False,
            silent=True,
            init_timeout=self._timeout,
            finish_timeout=self._timeout,
            x_disable_machine_info=True,
        )
        self._run: Any = self._wandb.init(
            **self._named,
            id=stage.id,
            name=stage.name,
            group=self._group or stage.group,
            job_type=stage.kind,
            config=dict(stage.config),
            dir=str(folder),
            mode=self._mode,
            resume="allow",
            reinit="create_new",
            settings=settings,
        )
        self._run.config.update(dict(stage.config), allow_val_change=True)
        return int(self._run.starting_step) - 1 if self._run.resumed else -1

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step, commit=True)  # else it is written when the next one comes

    def text(self, notice: str) -> None:
        self._run.write_logs(f"{notice}\n")

    def end(self, counts: Mapping[str, Value], is_complete: bool) -> None:
        self._run.summary.update(dict(counts))
        self._run.finish(exit_code=0 if is_complete else 1)
