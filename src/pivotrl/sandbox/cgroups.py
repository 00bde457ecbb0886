"""A control group for each session, where this process may make one: version 1 or 2.

Groups are named after the process that made them. Opening the next sandbox removes groups of killed processes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from pivotrl.sandbox.interface import Limits

ROOT = Path("/sys/fs/cgroup")
CONTROLLERS = ("pids", "memory")
_PREFIX = "pivotrl"
_numbers = count()


@dataclass(frozen=True)
class Places:
    """Directories in which groups can be made: one for each controller (version 1), or one for all (2)."""

    version: int
    directories: tuple[Path, ...]


def find() -> Places | None:
    """Where this process may make groups that limit processes and memory; None if it may not."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        own.update({name: path.lstrip("/") for name in names.split(",")})
    for version, options in ((1, [_first(ROOT / name, own.get(name)) for name in CONTROLLERS]), (2, [_second(own)])):
        if all(options):
            places = Places(version, tuple(option for option in options if option))
            sweep(places)
            try:
                Group(places).close()
            except OSError:
                continue
            return places
    return None


def _first(mount: Path, path: str | None) -> Path | None:
    """Version 1: below our own group of the controller, or at its top."""
    candidates = [mount / path, mount] if path is not None else []
    return next((p for p in candidates if (p / "cgroup.procs").exists() and os.access(p, os.W_OK)), None)


def _second(own: dict[str, str]) -> Path | None:
    """Version 2: the nearest group above ours that hands both controllers down."""
    if "" not in own:
        return None
    here = ROOT / own[""]
    for place in (here, *here.parents):
        with contextlib.suppress(OSError):
            handed = (place / "cgroup.subtree_control").read_text().split()
            if set(CONTROLLERS) <= set(handed) and os.access(place, os.W_OK):
                return place
        if place == ROOT:
            return None
    return None


class Group:
    """The processes of one session. Raises OSError where it cannot be made."""

    def __init__(self, places: Places) -> None:
        name = f"{_PREFIX}.{os.getpid()}.{_started(os.getpid())}.{next(_numbers)}"
        self.version = places.version
        self.paths = [directory / name for directory in places.directories]
        for path in self.paths:
            path.mkdir()

    def limit(self, limits: Limits, num_helpers: int) -> None:
        """Memory counts the session's files too, which lie in memory."""
        size = str(limits.memory_bytes + limits.disk_bytes)
        pids, memory = self.paths[0], self.paths[-1]
        (pids / "pids.max").write_text(str(limits.num_processes + num_helpers))
        if self.version == 2:
            (memory / "memory.max").write_text(size)
            _try_write(memory / "memory.swap.max", "0")
            return
        _try_write(memory / "memory.memsw.limit_in_bytes", "-1")  # never lower than the limit that comes next
        (memory / "memory.limit_in_bytes").write_text(size)
        _try_write(memory / "memory.memsw.limit_in_bytes", size)

    def add(self, pid: int) -> None:
        for path in self.paths:
            (path / "cgroup.procs").write_text(str(pid))

    def close(self) -> None:
        """Kill the remaining processes and remove the group."""
        for path in self.paths:
            _remove(path)


def sweep(places: Places) -> None:
    """Remove the groups of dead processes."""
    for directory in places.directories:
        for path in directory.glob(f"{_PREFIX}.*.*.*"):
            _, pid, started, _ = path.name.split(".")
            if _started(int(pid)) != started:
                _remove(path)


def _remove(path: Path) -> None:
    deadline = time.monotonic() + 0.5
    while path.exists() and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            for pid in (path / "cgroup.procs").read_text().split():
                with contextlib.suppress(OSError):
                    os.kill(int(pid), signal.SIGKILL)
            path.rmdir()
            return
        time.sleep(0.002)


def _try_write(path: Path, text: str) -> None:
    if path.exists():
        with contextlib.suppress(OSError):
            path.write_text(text)


def _started(pid: int) -> str:
    """Clock ticks at which a process began; with its number a name that is never given twice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return "gone"
