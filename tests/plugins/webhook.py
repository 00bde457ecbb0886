"""A tracker: every stage and step is posted to a server as JSON."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from typing import Any

from pivotrl.protocols.observing import Observer
from pivotrl.records import Manifest


class Tracker(Observer):
    """
    Args:
        url: where each event is posted, such as "http://localhost:8000".
        run: a name for the run, sent with every event.
    """

    def __init__(self, *, url: str, run: str = "") -> None:
        self._url, self._run = url, run

    def started(self, stage: str, manifest: Manifest) -> None:
        self._post("started", stage=stage)

    def step(self, number: int, metrics: Mapping[str, float]) -> None:
        self._post("step", number=number, metrics=dict(metrics))

    def finished(self, stage: str, manifest: Manifest) -> None:
        self._post("finished", stage=stage, counts=manifest.counts)

    def close(self) -> None:
        self._post("closed")

    def _post(self, event: str, **facts: Any) -> None:
        body = json.dumps({"event": event, "run": self._run, **facts}).encode()
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})  # noqa: S310
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310
