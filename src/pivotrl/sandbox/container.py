"""A container that lasts: processes survive between commands, as programs of others expect of docker.

    python -m pivotrl.sandbox.container --mebibytes 128 /app /logs /tests

becomes bubblewrap with the profile of :mod:`pivotrl.sandbox.bwrap`: the same read-only system, no network, no rights,
the same filter of system calls. The directories given are empty and writable, each with a size of its own. Commands
come as JSON lines by standard input and their results leave by standard output (:mod:`pivotrl.sandbox.exec_server`);
when the input ends, everything in the container is killed. Weaker than a session: there is no control group, so memory
is limited for each process only.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from pivotrl.protocols import InputError
from pivotrl.sandbox import seccomp
from pivotrl.sandbox.bwrap import DIRECTORIES, ENVIRONMENT, FILES, program
from pivotrl.sandbox.interface import MEBIBYTE
from pivotrl.sandbox.session_processes import NOBODY
from pivotrl.sandbox.sessions import ETC

PYTHON = "/usr/bin/python3"
"""Runs the server inside; an interpreter outside ``/usr`` cannot be seen there."""
_RLIMITS = {
    "RLIMIT_AS": 2048 * MEBIBYTE,
    "RLIMIT_NPROC": 1024,
    "RLIMIT_FSIZE": 256 * MEBIBYTE,
    "RLIMIT_CORE": 0,
}
_PR_SET_DUMPABLE = 4


def require_container() -> None:
    """Raises:
    InputError: bubblewrap, or a Python in ``/usr``, is missing.
    """
    program()
    if not Path(PYTHON).exists():
        raise InputError(f"a container in the sandbox needs {PYTHON}: apt-get install python3")


def client_environment(*folders: Path) -> dict[str, str]:
    """What another interpreter needs to import ``container_client``, and modules in these folders, and start one."""
    paths = (*folders, Path(__file__).with_name("client"))
    source = str(Path(__file__).parents[2])
    return {"PYTHONPATH": os.pathsep.join(map(str, paths)), "PIVOTRL_PYTHON": sys.executable, "PIVOTRL_SOURCE": source}


def arguments(writable: Sequence[str], num_bytes: int, filter_fd: int, etc_fds: dict[str, int]) -> list[str]:
    """bwrap's, without the command."""
    words = ["--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session", "--clearenv"]
    words += ["--uid", "1000", "--gid", "1000", "--hostname", "sandbox", "--seccomp", str(filter_fd)]
    for name, value in ENVIRONMENT.items():
        words += ["--setenv", name, value]
    for name in DIRECTORIES:
        path = Path(name)
        words += ["--symlink", str(path.readlink()), name] if path.is_symlink() else ["--ro-bind-try", name, name]
    for name in FILES:
        words += ["--ro-bind-try", name, name]
    for name, fd in etc_fds.items():
        words += ["--ro-bind-data", str(fd), f"/etc/{name}"]
    words += ["--proc", "/proc", "--dev", "/dev"]
    for folder in ("/dev/shm", "/tmp", *writable):  # noqa: S108 - paths inside the container
        words += ["--size", str(num_bytes), "--tmpfs", folder]
    return [*words, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"]


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mebibytes", type=int, default=128)
    parser.add_argument("writable", nargs="+")
    options = parser.parse_args(given)
    require_container()
    for name, limit in _RLIMITS.items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1)  # or /proc/self/uid_map stays root's
    words = arguments(
        options.writable,
        options.mebibytes * MEBIBYTE,
        _readable(seccomp.program()),
        {name: _readable(text.encode()) for name, text in ETC.items()},
    )
    server = Path(__file__).with_name("exec_server.py").read_text("utf-8")
    os.chdir("/")
    os.execv(  # noqa: S606 - a list of words, no shell
        program(), [shutil.which("bwrap") or "bwrap", *words, "--", PYTHON, "-I", "-u", "-c", server]
    )


def _readable(data: bytes) -> int:
    """A pipe that holds the data (less than its capacity), for bwrap to read."""
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    os.set_inheritable(reading, True)
    return reading


if __name__ == "__main__":
    main()
