"""Another run beside this one: its samples at the turns of trajectories that both have."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path

from pivotrl.protocols import InputError
from pivotrl.records import Trajectory
from pivotrl.report.browser.sources import Source, sources_of
from pivotrl.runs.files import RunFiles


@dataclasses.dataclass
class Other:
    """The second run."""

    name: str
    sources: list[Source]
    """Its samples at turns of logs; episodes belong to one run alone."""
    shared: set[str]
    """Trajectories that are the same in both."""
    notices: list[str]


def join(files: RunFiles, directory: Path) -> Other:
    """Raises:
    InputError: it is the same run, it has no samples, or the two have no trajectory in common.
    """
    if directory.resolve() == files.directory.resolve():
        raise InputError(f"--against {directory} is the run itself; give another one")
    others = RunFiles(directory)
    mine, its = dict(_digests(files)), dict(_digests(others))
    shared = {name for name in mine if its.get(name) == mine[name]}
    named_alike = len(mine.keys() & its.keys())
    if not shared:
        raise InputError(
            f"{files.directory} and {directory} have no trajectory in common ({named_alike:,} share an id but not "
            "their messages), so their turns cannot be compared. Give a run that was read from the same logs"
        )
    found = sources_of(others)
    name = directory.resolve().name
    sources = [
        dataclasses.replace(source, name=f"run {name}: {source.name}", run=name, trained={})
        for source in found
        if not source.episodes
    ]
    if not sources:
        raise InputError(f"{directory} has no samples yet; profile or evaluate it first")
    notices = []
    if apart := len(mine) - len(shared):
        differ = named_alike - len(shared)
        notices.append(
            f"{apart:,} of {len(mine):,} trajectories cannot be compared with {name}: {differ:,} differ there, "
            f"{apart - differ:,} are missing."
        )
    if any(source.episodes for source in found):
        notices.append(f"The episodes of {name} are not shown here; view that run alone to see them.")
    return Other(name, sources, shared, notices)


def _digests(files: RunFiles) -> Iterator[tuple[str, bytes]]:
    """(id, hash of all that an agent saw) of every trajectory."""
    seen = {"messages", "tools", "context_window", "pinned_messages"}
    for file in (files.logged(), files.logged_heldout()):
        trajectory: Trajectory
        for trajectory in file:
            yield trajectory.id, hashlib.sha256(trajectory.model_dump_json(include=seen).encode()).digest()
