"""What `pivotrl bench swe` tells the process that plays an episode."""

from __future__ import annotations

from typing import Any

from pivotrl.records import Record


class Scorer(Record):
    """swebench's own scorer."""

    python: str
    """The interpreter that has it."""
    rows: str
    """The file of the rows."""
    seconds: int
    """Time limit of an instance's tests."""


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
    scorer: Scorer | None
    """Who judges in place of the environment."""
    played: str | None
    """The folder of an earlier process that played this episode to its end, and was not judged."""
