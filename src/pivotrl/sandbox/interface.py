"""The interface of every backend, and what callers may rely on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

MEBIBYTE = 1 << 20
KILL_SECONDS = 0.5
"""Seconds after its time limit by which a command is gone."""
FLOOD_FACTOR = 16
"""A command that writes more than this many times ``output_bytes`` to one stream is killed."""


@dataclass(frozen=True)
class Limits:
    """Limits of one command. ``disk_bytes`` applies to a whole session and is fixed when it opens."""

    wall_seconds: float = 10.0
    memory_bytes: int = 512 * MEBIBYTE
    num_processes: int = 64
    """Processes and threads at any time."""
    output_bytes: int = MEBIBYTE
    """Bytes kept of each stream: half from the start, half from the end."""
    disk_bytes: int = 128 * MEBIBYTE
    """Everything a session writes: work directory, /tmp and /dev/shm together."""


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    exit_code: int | None
    """None: killed for time, output or memory. 128 + n: died of signal n. 127: no such command; 126: it
    cannot be started, or no program can be given these words."""
    stdout: bytes
    stderr: bytes
    timed_out: bool
    truncated: bool
    """Bytes are missing from stdout or stderr, so these are not what the command wrote."""
    wall_seconds: float


class SandboxFault(RuntimeError):
    """The sandbox itself failed. This says nothing about the command, so there is no verdict."""


class Session(Protocol):
    """One private copy of an environment directory. Files persist between commands; processes do not."""

    def run(self, command: Sequence[str], *, stdin: bytes = b"", limits: Limits | None = None) -> Finished:
        """Run one command in the work directory and wait until all its processes are gone.

        Raises:
            SandboxFault: the command could not be run.
        """
        ...

    def changes(self) -> dict[str, str]:
        """Path relative to the work directory -> sha256 of content plus mode, or ``deleted``.

        Regular files and links (by their target); links are never followed. Directories are ignored.

        Raises:
            SandboxFault: there is too much to hash, such as huge sparse files.
        """
        ...

    def read(self, path: str, max_bytes: int) -> bytes:
        """A regular file under the work directory; links are never followed.

        Raises:
            FileNotFoundError: there is no regular file at this path without links.
            SandboxFault: it is larger than ``max_bytes``.
        """
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Sandbox(Protocol):
    """Opens sessions. Safe to use from several threads; a forked process gets its own helpers."""

    @property
    def identity(self) -> dict[str, Any]:
        """JSON facts for manifests: backend, level, versions, how a directory is restored."""
        ...

    def open(self, files: Path | None = None, limits: Limits = Limits()) -> Session:
        """A session whose work directory is a copy of ``files``, or empty.

        ``files`` must not change while sessions on it are open.

        Raises:
            InputError: ``files`` is not a directory that can be read.
            SandboxFault: no session could be opened.
        """
        ...
