"""What `pivotrl bench swe` tells the process that plays an episode."""

from __future__ import annotations

from typing import Any

from pivotrl.records import Record


class Episode(Record):
    """What ``.episode.json`` holds."""

    environments: str
    task: str
    python: str
    """The interpreter that has mini-swe-agent."""
    model: dict[str, Any]
    """Of mini-swe-agent's configuration."""
    step_limit: int
    wall_seconds: int
