"""One command of a session: started, watched, and ended with everything that it started. Runs in the keeper."""

# ruff: noqa: PTH123, PTH208

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import time

from pivotrl.sandbox.libc import LIBC
from pivotrl.sandbox.messages import Message, receive

FIRST_EXTRA_FD = 10
"""Files for the command line beside its three streams come at this number and on."""
PR_SET_PDEATHSIG = 1
_TICK_SECONDS = 0.05


def start(request: Message, fds: list[int]) -> int:
    """Fork and become the command line. Returns the pid; the child never returns."""
    pid = os.fork()
    if pid:
        return pid
    try:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        safe = [os.dup2(fd, 200 + index, inheritable=False) for index, fd in enumerate(fds)]
        for index, fd in enumerate(safe):
            os.dup2(fd, index if index < 3 else FIRST_EXTRA_FD + index - 3)
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # when memory ends, the kernel takes this first
        for name, value in request["rlimits"].items():
            resource.setrlimit(getattr(resource, name), (value, value))
        os.execve(request["argv"][0], request["argv"], {})  # noqa: S606
    finally:
        os._exit(125)


def descendants() -> list[int]:
    """Every process below this one, children first."""
    found, left = [], [os.getpid()]
    while left:
        pid = left.pop()
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/children") as file:
                    left += (children := [int(child) for child in file.read().split()])
                    found += children
    return found


def resident_bytes(pids: list[int]) -> int:
    """Memory of these processes; pages that several share are counted once, by their shares."""
    return sum(_resident(pid, "smaps_rollup", b"Pss:") or _resident(pid, "status", b"VmRSS:") for pid in pids)


def _resident(pid: int, name: str, field: bytes) -> int:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/{name}", "rb") as file:
        for line in file:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0


def kill_all() -> None:
    """Kill and reap every process below this one, including orphans."""
    while True:
        for pid in descendants():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.001)


def run(channel: socket.socket, request: Message, fds: list[int]) -> Message:
    """Run one command line until it ends or hits its time or memory limit; nothing of it remains."""
    began = time.monotonic()
    pid = start(request, fds)
    for fd in fds:
        os.close(fd)
    ended = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(channel, select.POLLIN)
    why = ""
    while not why:
        left = began + request["wall_seconds"] - time.monotonic()
        if left <= 0:
            why = "time"
            break
        tick = min(left, _TICK_SECONDS) if request["watched_bytes"] else left
        for fd, _ in poll.poll(tick * 1000 + 1):
            why = why or ("ended" if fd == ended else "told")
        if not why and request["watched_bytes"] and resident_bytes(descendants()) > request["watched_bytes"]:
            why = "memory"
    os.close(ended)
    if why != "ended":
        os.kill(pid, signal.SIGKILL)  # what runs below it dies with it, by its own arrangement
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if why == "ended" else None
    kill_all()
    if why == "told":
        receive(channel)  # EOFError when the orchestrator is gone: this keeper ends with it
    return {"why": why, "status": status, "seconds": time.monotonic() - began}
