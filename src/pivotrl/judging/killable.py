"""A function in a process of its own, which is killed when it takes too long or too much memory.

Nothing inside Python can stop a regular expression that backtracks or ``9**9**9``: both hold the interpreter lock, so
that a thread with a time limit never gets to run. The process is forked once and then asked over a socket, one line
of bytes for one line, so that asking costs microseconds.

A fork of a process with threads copies their locks in whatever state they are. The function must therefore use nothing
that has threads of its own, torch above all. A child that hangs all the same is killed at its limit like any other.

The kernel kills a child when the *thread* that forked it ends, not only when the process does. So a thread that asks
must live as long as its children.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
_prctl = getattr(ctypes.CDLL(None), "prctl", None)  # looked up before any fork; Linux only


_forking = threading.RLock()
"""One fork at a time: filters of warnings belong to the process, and no child may hold the end of another's link.
The child inherits it as taken; being the thread that took it, it can take it again to fork a child of its own."""


class TookTooLong(Exception):
    """The process did not answer within its limit and was killed."""


class Crashed(Exception):
    """The process ended without an answer."""


class Killable:
    """One thread at a time may ask; any thread may interrupt.

    Args:
        answer: one line without its end -> one line without its end. It runs in the child only. What it keeps between
            calls is lost when the child is replaced.
        memory_gib: address space that the child may take beyond what its parent had when it was forked; more is a
            MemoryError there. A soft limit: a program that it starts may raise its own. None: no limit.
    """

    def __init__(self, answer: Callable[[bytes], bytes], memory_gib: float | None = 8.0) -> None:
        self._answer, self._memory_gib = answer, memory_gib
        self._socket: socket.socket | None = None
        self._child = self._owner = 0
        self._changing = threading.Lock()
        """Held while a child comes or goes, so that nobody kills a process that is no longer ours."""
        self._is_interrupted = self._is_stopped = False

    @property
    def running(self) -> bool:
        """Whether there is a child, with what it has kept, to answer the next call."""
        return self._has_child and not self._is_interrupted

    @property
    def _has_child(self) -> bool:
        return self._socket is not None and self._owner == os.getpid()

    def ask(self, line: bytes, timeout_seconds: float) -> bytes:
        """The child's answer. It is forked at the first call, and anew after one that it did not survive.

        Raises:
            TookTooLong, Crashed: there is no answer; the child is gone when this is raised.
        """
        assert b"\n" not in line
        self.start()
        assert self._socket is not None
        deadline, parts = time.monotonic() + timeout_seconds, list[bytes]()
        try:
            self._socket.settimeout(timeout_seconds)
            self._socket.sendall(line + b"\n")
            while not parts or not parts[-1].endswith(b"\n"):
                self._socket.settimeout(max(deadline - time.monotonic(), 1e-6))
                parts.append(self._socket.recv(1 << 16))
                if not parts[-1]:
                    raise ConnectionResetError
        except TimeoutError:
            self.close()
            raise TookTooLong(f"no answer within {timeout_seconds:g} s") from None
        except OSError:
            raise Crashed(self.close()) from None
        except BaseException:  # Ctrl-C: the answer to come would be taken for the next one's
            self.close()
            raise
        return b"".join(parts)[:-1]

    def close(self) -> str:
        """Kill the child and what it started in its process group. Returns how the child had ended."""
        with self._changing:
            return self._end()

    def interrupt(self, for_good: bool = False) -> None:
        """Kill the child, from any thread. A thread that waits for its answer gets :class:`Crashed`.

        Args:
            for_good: no other child may be forked afterwards; :meth:`ask` raises :class:`Crashed`.
        """
        with self._changing:
            self._is_interrupted, self._is_stopped = True, self._is_stopped or for_good
            if self._has_child:
                self._kill()

    def start(self) -> None:
        """Fork the child now, unless it runs already.

        Raises:
            Crashed: it was interrupted for good.
        """
        with self._changing:
            if self._is_stopped:
                raise Crashed("interrupted")
            if not self.running:
                self._end()
                self._fork()
                self._is_interrupted = False

    def _end(self) -> str:
        if not self._has_child:
            return "there is no child"
        assert self._socket is not None
        self._socket.close()
        self._socket = None
        ended = 0
        self._kill()
        with contextlib.suppress(ChildProcessError):
            ended = os.waitpid(self._child, 0)[1]
        code = os.waitstatus_to_exitcode(ended)
        return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"

    def _kill(self) -> None:
        for kill in (os.killpg, os.kill):  # the group exists as soon as the child has made it
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(self._child, signal.SIGKILL)

    def _fork(self) -> None:
        with _forking:
            ours, theirs = socket.socketpair()
            for stream in (sys.stdout, sys.stderr):  # else the child may write what is buffered a second time
                if stream is not None:
                    stream.flush()
            parent = os.getpid()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads: see the top of the module
                pid = os.fork()
            if pid == 0:
                try:
                    _live(theirs, parent, self._answer, self._memory_gib)
                finally:
                    os._exit(1)  # never the parent's cleanup
            theirs.close()
        self._socket, self._child, self._owner = ours, pid, parent


def _live(link: socket.socket, parent: int, answer: Callable[[bytes], bytes], memory_gib: float | None) -> NoReturn:
    """What the child does until its parent is gone or kills it."""
    os.setpgid(0, 0)  # Ctrl-C is for the parent
    if _prctl is not None:
        _prctl(_DIES_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that took effect
        os._exit(0)
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for descriptor in map(int, os.listdir("/dev/fd")):  # noqa: PTH208 - locks, sockets and files are the parent's
        if descriptor > 2 and descriptor != link.fileno():
            with contextlib.suppress(OSError):
                os.close(descriptor)
    with contextlib.suppress(OSError):
        os.dup2(2, 1)  # what it prints is no result of ours
    if link.fileno() != 0:
        with contextlib.suppress(OSError):
            os.close(0)
        os.open(os.devnull, os.O_RDONLY)  # takes the lowest number that is free
    if memory_gib is not None and (sizes := Path("/proc/self/statm")).is_file():
        taken = int(sizes.read_text().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = taken + int(memory_gib * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard < 0 else min(limit, hard), hard))
    gc.freeze()  # the parent's objects: looking at them would copy their pages
    with link, link.makefile("rb") as lines:
        for line in lines:
            link.sendall(answer(line[:-1]) + b"\n")
    os._exit(0)
