"""Agent Trajectory Interchange Format, versions 1.0 to 1.8, as Harbor and its agents write it.

Each agent step is one message. Each result of its observation follows as a tool message, or as a user message if it
answers no call. The format has no reward; it is read from ``result.json`` of the Harbor trial that contains the file
(``TRIAL/agent/trajectory.json``, ``TRIAL/steps/NAME/agent/trajectory.json``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.formats.atif_runs import runs
from pivotrl.records import Refusal, Trajectory

_TERMINUS = re.compile(r'"name":\s*"terminus')


def recognises(head: Sequence[Any]) -> bool:
    """Documents with a ``schema_version`` of ATIF; those of Terminus have their own reader."""
    return any(_is_atif(value) and not _agent_name(value).startswith("terminus") for value in head)


def claims(path: Path) -> bool:
    """A directory of a Harbor trial (or a step of one) that holds a trajectory, not of Terminus."""
    try:
        with (path / "agent" / "trajectory.json").open(encoding="utf-8", errors="replace") as file:
            beginning = file.read(2000)
    except OSError:
        return False
    return "ATIF-v" in beginning and not _TERMINUS.search(beginning)


def read(path: Path, *, subagents: bool = False) -> Iterator[Trajectory | Refusal]:
    """One trajectory per file, or those of a trial's directory: the main one and its continuations.

    Args:
        subagents: also read embedded sub-agents, and take the turns of sub-agents as candidates. By default what is
            embedded is left out, and of a sub-agent's own file no turn is a candidate. Their reward is unknown.

    Raises:
        InputError: the file cannot be read.
    """
    return runs(path, subagents=subagents)


def _is_atif(value: Any) -> bool:
    version = value.get("schema_version") if isinstance(value, dict) else None
    return isinstance(version, str) and version.startswith("ATIF-v") and isinstance(value.get("steps"), list)


def _agent_name(value: Any) -> str:
    agent = value.get("agent")
    name = agent.get("name") if isinstance(agent, dict) else None
    return name if isinstance(name, str) else ""
