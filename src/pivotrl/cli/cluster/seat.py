"""What runs in a process of Ray's that holds a place in the cluster: it starts one command there and tells of it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import selectors
import shutil
import socket
import struct
import subprocess
import sys
import termios
import time
import tty
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.samplers.ray.worker import Asked

_TETHER = Path(__file__).with_name("tether.py")
_CHUNK, _MOST = 1 << 16, 1 << 20
_TAIL_BYTES = 4_000
_HEALTH_SECONDS = 2.0


class Seat(Asked):
    """Questions come one at a time (:class:`pivotrl.samplers.ray.worker.Asked`)."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._streams: dict[int, int] = {}
        """Our end of a stream -> 1 for its standard output, 2 for its standard error."""
        self._log: Path | None = None

    def facts(self) -> dict[str, Any]:
        """Where it is."""
        import ray

        return {
            "host": socket.gethostname(),
            "address": ray.util.get_node_ip_address(),
            "pid": os.getpid(),
            "python": sys.executable,
        }

    def free_port(self, address: str, wanted: int | None) -> int:
        """A port of this machine that nobody listens at.

        Raises:
            InputError: the wanted one is in use.
        """
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, wanted or 0))
                if wanted:
                    probe.listen()
            except OSError as error:
                raise InputError(
                    f"port {wanted} of {address} cannot be used ({error.strerror}); give another one, or leave it out "
                    "for one that is free"
                ) from error
            return int(probe.getsockname()[1])

    def start(
        self,
        words: Sequence[str],
        environment: Mapping[str, str | None],
        folder: str,
        terminal: Mapping[str, Any],
        log: str | None = None,
    ) -> int:
        """Start the command, after the end of the one before; the process id of what holds it.

        Args:
            environment: variables beside those of this process; None unsets one.
            folder: where to start it. Another machine may lack it.
            terminal: ``size`` (rows, columns), and which of the streams 1 and 2 a terminal shows (``shown``).
            log: file for both streams instead.

        Raises:
            InputError: the program does not exist.
        """
        self.end()
        variables = {**os.environ, **environment}
        given = {name: text for name, text in variables.items() if text is not None}
        where = folder if Path(folder).is_dir() else None
        program = words[0]
        if shutil.which(program, path=given.get("PATH")) is None:
            raise InputError(f"there is no program {program!r} on {socket.gethostname()}")
        self._log, theirs = Path(log) if log else None, dict[int, int]()
        try:
            if self._log is not None:
                theirs[1] = theirs[2] = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            else:
                for number in (1, 2):
                    ours, theirs[number] = _stream(terminal, number)
                    self._streams[ours] = number
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-S", str(_TETHER), *words],
                stdin=subprocess.PIPE,
                stdout=theirs[1],
                stderr=theirs[2],
                env=given,
                cwd=where,
                start_new_session=True,
            )
        finally:
            for each in set(theirs.values()):
                os.close(each)
        return self._process.pid

    def poll(self, seconds: float) -> tuple[list[tuple[int, bytes]], int | None]:
        """(what it wrote: stream and bytes, its exit code or None). Waits until there is something, or for so long."""
        if self._process is None:
            return [], None
        until, found = time.monotonic() + seconds, list[tuple[int, bytes]]()
        while not found:
            code = self._process.poll()  # before the streams: what it wrote at its end is there then
            found = self._read(0.0 if code is not None else min(0.1, max(0.0, until - time.monotonic())))
            if code is not None and not found:
                return found, code
            if time.monotonic() >= until:
                break
        return found, None

    def signal(self, number: int) -> None:
        """Send the command a signal."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.write(f"{number}\n".encode())
                self._process.stdin.flush()

    def is_healthy(self, url: str) -> bool:
        """Whether a server answers there."""
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(url, timeout=_HEALTH_SECONDS):
                return True
        except (OSError, ValueError):
            return False

    def last_words(self) -> str:
        """The end of the log."""
        if self._log is None or not self._log.is_file():
            return ""
        with self._log.open("rb") as file:
            file.seek(max(0, self._log.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace")

    def end(self) -> None:
        """Kill the command and all that it started."""
        if self._process is not None:
            if self._process.stdin is not None:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()
            self._process.wait()
            self._process = None
        for ours in self._streams:
            os.close(ours)
        self._streams = {}

    def _read(self, seconds: float) -> list[tuple[int, bytes]]:
        if not self._streams:
            time.sleep(seconds)
            return []
        found: list[tuple[int, bytes]] = []
        with selectors.DefaultSelector() as selector:
            for ours, number in self._streams.items():
                selector.register(ours, selectors.EVENT_READ, number)
            for key, _ in selector.select(seconds):
                found.append((key.data, self._take(key.fd)))
        return [(number, data) for number, data in found if data]

    def _take(self, ours: int) -> bytes:
        parts = list[bytes]()
        while sum(map(len, parts)) < _MOST:
            try:
                part = os.read(ours, _CHUNK)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.EIO:  # the end of a terminal
                    raise
                part = b""
            if not part:
                os.close(ours)
                del self._streams[ours]
                break
            parts.append(part)
        return b"".join(parts)


def _stream(terminal: Mapping[str, Any], number: int) -> tuple[int, int]:
    """(our end, its end): a terminal of the user's size where the user has one, so that bars look as they do there."""
    if number not in terminal["shown"]:
        ours, theirs = os.pipe()
    else:
        ours, theirs = os.openpty()
        tty.setraw(theirs, termios.TCSANOW)  # what is written arrives unchanged
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *terminal["size"], 0, 0))
    os.set_blocking(ours, False)
    return ours, theirs
