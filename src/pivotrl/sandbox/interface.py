"""What every backend offers, and what a caller may rely on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

MEBIBYTE = 1 << 20
KILL_SECONDS = 0.5
"""A command is gone by its time limit plus this."""
FLOOD_FACTOR = 16
"""A command that writes more than this many times ``output_bytes`` to one stream is killed."""


@dataclass(frozen=True)
class Limits:
    """What one command may use. ``disk_bytes`` holds for a whole session and is fixed when it is opened."""

    wall_seconds: float = 10.0
    memory_bytes: int = 512 * MEBIBYTE
    num_processes: int = 64
    """Processes and threads at one time."""
    output_bytes: int = MEBIBYTE
    """Kept of each stream: half of it from the head, half from the tail."""
    disk_bytes: int = 128 * MEBIBYTE
    """All that a session writes: work directory, /tmp and /dev/shm together."""


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
    """Bytes are missing from stdout or stderr: never take them for what the command wrote."""
    wall_seconds: float


class SandboxFault(RuntimeError):
    """The sandbox could not do its part. Says nothing about the command: the outcome is no verdict."""


class Session(Protocol):
    """One private copy of an environment directory. Files persist from command to command, processes do not."""

    def run(self, command: Sequence[str], *, stdin: bytes = b"", limits: Limits | None = None) -> Finished:
        """Run one command in the work directory and wait until nothing of it is left.

        Raises:
            SandboxFault: the command could not be run.
        """
        ...

    def changes(self) -> dict[str, str]:
        """Path relative to the work directory -> sha256 of content plus mode, or ``deleted``.

        Regular files and links (by their target); links are never followed. Directories do not count.

        Raises:
            SandboxFault: there is more than can be hashed, for instance huge sparse files.
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
    """Opens sessions. Safe to use from several threads; a process that was forked gets helpers of its own."""

    @property
    def identity(self) -> dict[str, Any]:
        """JSON facts for manifests: backend, level, versions, how a directory is restored."""
        ...

    def open(self, files: Path | None = None, limits: Limits = Limits()) -> Session:
        """A session whose work directory holds what ``files`` holds; empty without.

        ``files`` must not change while sessions on it are open.

        Raises:
            InputError: ``files`` is not a directory that can be read.
            SandboxFault: no session could be made.
        """
        ...
