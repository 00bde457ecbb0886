"""The helper process of :mod:`pivotrl.sandbox.session_process`, as the orchestrator starts and asks it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from pivotrl.sandbox import messages
from pivotrl.sandbox.interface import SandboxFault

NOBODY = 65534
"""Root becomes this user, and this group, before anything is started."""
_BOOT = """
import sys, types
for name, folder in (("pivotrl", sys.argv[1]), ("pivotrl.sandbox", sys.argv[1] + "/sandbox")):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [folder]
from pivotrl.sandbox.session_process import main
main()
"""
"""Starts the keeper's modules without the package around them, which imports far more."""


class Keepers:
    """The helper process, which forks a keeper for each session. Started again in a process that was forked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        root = os.getuid() == 0
        uid, gid = (NOBODY, NOBODY) if root else (os.getuid(), os.getgid())
        arguments = [str(theirs.fileno()), str(os.getpid()), str(uid), str(gid)]
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-I", "-S", "-c", _BOOT, str(Path(__file__).parents[1]), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._channel, self._owner = ours, os.getpid()

    def fork(self) -> tuple[socket.socket, int]:
        """A new keeper: our end of its channel, and its pid."""
        ours, theirs = socket.socketpair()
        with self._lock, theirs:
            if self._owner != os.getpid() or self._process.poll() is not None:
                if self._owner:
                    self._channel.close()
                self._start()
            try:
                messages.send(self._channel, {}, (theirs.fileno(),))
                return ours, messages.receive(self._channel)[0]["pid"]
            except (EOFError, OSError) as error:
                ours.close()
                raise SandboxFault(f"the sandbox's helper process ended: {error!r}") from error

    def close(self) -> None:
        with self._lock:
            if self._owner == os.getpid():
                self._channel.close()
                self._process.wait()
                self._owner = 0
