"""Writes runs of MLflow, to a local database or a tracking server."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from pivotrl.plugins.extras import load_package
from pivotrl.runs.tracking import StageTracker, TrackedStage, Value

_TAG = "pivotrl.stage_id"
_LONGEST_NOTE = 5_000
_LONGEST_VALUE = 6_000


class Tracker(StageTracker):
    """Each stage is a run of MLflow. Options are its parameters; notices are its description.

    Args:
        uri: of the store, such as ``sqlite:///mlflow.db`` or ``http://localhost:5000``. "": as the environment variable
            MLFLOW_TRACKING_URI says, or ``mlflow.db`` in the current directory.
        experiment: is made if it does not exist.
        artifacts: where a new experiment keeps files; "" is the store's default.

    Raises:
        InputError: the package is missing.
    """

    def __init__(self, *, uri: str = "", experiment: str = "pivotrl", artifacts: str = "") -> None:
        self._experiment, self._artifacts = experiment, artifacts
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would connect whatever the store is
        uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
        if uri.startswith("sqlite"):
            load_package("sqlalchemy", "the tracker 'mlflow'")
        self._entities = load_package("mlflow.entities", "the tracker 'mlflow'")
        tracking = load_package("mlflow.tracking", "the tracker 'mlflow'")
        for name in ("mlflow.store.db.utils", "alembic"):  # they tell of every table that a new database gets
            logging.getLogger(name).setLevel(logging.WARNING)
        self._client: Any = tracking.MlflowClient(tracking_uri=uri)

    def begin(self, stage: TrackedStage) -> int:
        client = self._client
        known = client.get_experiment_by_name(self._experiment)
        experiment = (
            known.experiment_id
            if known
            else client.create_experiment(self._experiment, artifact_location=self._artifacts or None)
        )
        found = client.search_runs([experiment], f"tags.`{_TAG}` = '{stage.id}'", max_results=1)
        tags = {_TAG: stage.id, "pivotrl.run": stage.group, "pivotrl.stage": stage.stage}
        run = found[0] if found else client.create_run(experiment, tags=tags, run_name=stage.name)
        self._id, self._notices = run.info.run_id, run.data.tags.get("mlflow.note.content", "")
        client.update_run(self._id, status="RUNNING")
        self._note_options(run.data.params, stage.config)
        return max((self._last_of(name) for name in run.data.metrics), default=-1)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        milliseconds = int(time.time() * 1000)
        made = [self._entities.Metric(name, value, milliseconds, step) for name, value in metrics.items()]
        self._client.log_batch(self._id, metrics=made)

    def text(self, notice: str) -> None:
        self._notices = f"{self._notices}\n\n{notice}".strip()[-_LONGEST_NOTE:]
        self._client.set_tag(self._id, "mlflow.note.content", self._notices)

    def end(self, counts: Mapping[str, Value], is_complete: bool) -> None:
        tags = [self._entities.RunTag(name, str(value)[:_LONGEST_VALUE]) for name, value in counts.items()]
        self._client.log_batch(self._id, tags=tags)
        self._client.set_terminated(self._id, status="FINISHED" if is_complete else "KILLED")

    def _note_options(self, known: Mapping[str, str], config: Mapping[str, Value]) -> None:
        """Parameters never change in MLflow: a new value of one, such as more steps, becomes a tag."""
        values = {name: str(value)[:_LONGEST_VALUE] for name, value in config.items()}
        new = [self._entities.Param(name, value) for name, value in values.items() if name not in known]
        for first in range(0, len(new), 100):
            self._client.log_batch(self._id, params=new[first : first + 100])
        for name, value in values.items():
            if known.get(name, value) != value:
                self._client.set_tag(self._id, f"changed/{name}", value)

    def _last_of(self, metric: str) -> int:
        return max(int(point.step) for point in self._client.get_metric_history(self._id, metric))
