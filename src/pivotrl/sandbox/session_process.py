"""The helper process: a program of its own that keeps each session's files and starts its commands.

It gives up its rights first (root becomes UID, for good), then forks one keeper a session. A keeper enters a user and
mount namespace of its own, where it has a size-capped tmpfs at ``/tmp`` and in it:

    work/     the work directory: an overlay of the environment directory, or plain
    upper/    what the overlay's changes are made of
    tmp/ shm/ etc/

Nothing of that is seen by any process outside, and all of it is gone when the keeper is. For each command it forks and
runs a command line that it was given (bwrap, runsc), which builds the actual sandbox below these mounts. Code in the
sandbox never sees the keeper: it lives in another process, mount and user namespace.

It imports nothing but the standard library and its own three modules, so that it starts in a few milliseconds and
holds nothing of the orchestrator's.
"""

from __future__ import annotations

import base64
import contextlib
import os
import select
import signal
import socket
import sys
import tarfile

from pivotrl.sandbox.commands import PR_SET_PDEATHSIG, kill_all, run
from pivotrl.sandbox.libc import LIBC
from pivotrl.sandbox.messages import Message, receive, send
from pivotrl.sandbox.session_files import (
    LOWER,
    WORK,
    Hasher,
    enter_namespaces,
    mount_files,
    read_file,
    touched,
    write_files,
)

_PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 4, 36


def keep(channel: socket.socket, uid: int, gid: int) -> None:
    """Serve one session until the orchestrator closes it."""
    LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    restore, baseline, budget = "", dict[str, str | None](), 0
    while True:
        request, fds = receive(channel)
        if request["do"] == "kill":
            continue  # it had ended by itself
        try:
            match request["do"]:
                case "open":
                    enter_namespaces(uid, gid)
                    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                    restore, budget = mount_files(request, fds), 4 * request["disk_bytes"]
                    if restore == "copy":
                        hasher = Hasher(sys.maxsize)
                        baseline = {path: hasher(WORK, path) for path in touched(restore, {})}
                    answer: Message = {"restore": restore}
                case "run":
                    write_files(request["files"])
                    answer = run(channel, request, fds)
                    fds = []
                case "changes":
                    then, now = Hasher(sys.maxsize), Hasher(budget)
                    answer = {"changes": {}}
                    for path in sorted(touched(restore, baseline)):
                        after = now(WORK, path)
                        before = then(LOWER, path) if restore == "overlay" else baseline.get(path)
                        if before != after:
                            answer["changes"][path] = after or "deleted"
                case _:
                    data = read_file(request["path"], request["max_bytes"])
                    answer = {"data": base64.b64encode(data).decode()}
        except (OSError, ValueError, tarfile.TarError) as error:
            answer = {"error": type(error).__name__, "text": str(error)}
        for fd in fds:
            os.close(fd)
        send(channel, answer)


def main() -> None:
    """Arguments: file descriptor of the channel, the orchestrator's pid, the user and group to become."""
    fd, parent, uid, gid = (int(text) for text in sys.argv[-4:])
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        LIBC.prctl(_PR_SET_DUMPABLE, 1)  # or /proc/self/uid_map stays root's
    os.chdir("/")
    os.umask(0o022)
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    channel = socket.socket(fileno=fd)
    os.set_inheritable(fd, False)
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(os.pidfd_open(parent), select.POLLIN)  # its own forks may hold the channel open
    with contextlib.suppress(EOFError, ConnectionError):
        while all(ready == fd for ready, _ in poll.poll()):
            _, (session,) = receive(channel)
            if pid := os.fork():
                os.close(session)
                send(channel, {"pid": pid})
                continue
            channel.close()
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            with contextlib.suppress(EOFError, ConnectionError):
                keep(socket.socket(fileno=session), uid, gid)
            kill_all()
            os._exit(0)
