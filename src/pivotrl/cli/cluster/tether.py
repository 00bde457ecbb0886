"""Runs a command that ends with whoever started it: ``python tether.py WORDS``. It imports nothing of ours.

A line of standard input is the number of a signal for the command. When standard input closes, because the process at
its other end has ended, however it ended, the command and everything in its process group are killed. So they are when
the command ends. The exit code is the command's, or 128 + the signal that ended it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading

_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


def _tie() -> None:
    if sys.platform == "linux":  # so that it ends, too, if only this process is killed
        ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
    with contextlib.suppress(OSError):  # Ray's processes give way to all others; only root may change that here
        os.setpriority(os.PRIO_PROCESS, 0, 0)


def main(words: list[str]) -> int:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a process of Ray's blocks some
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_tie)  # noqa: S603

    def kill_group() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)

    def listen() -> None:
        for line in sys.stdin.buffer:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, int(line))
        kill_group()

    threading.Thread(target=listen, daemon=True).start()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    kill_group()  # before the command is collected, so that its number is not another's
    code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.stdout.flush()
    os._exit(main(sys.argv[1:]))
