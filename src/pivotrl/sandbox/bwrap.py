"""The default backend: bubblewrap, hardened.

What a command sees: a read-only root made of the machine's ``/usr`` and the least of ``/etc``, no home; a work
directory, ``/tmp`` and ``/dev/shm`` on one size-capped tmpfs; a new ``/proc``; no environment but five variables; every
namespace its own, hence no network but an idle loopback; no way to make further namespaces; the filter of
:mod:`pivotrl.sandbox.seccomp`. Root becomes an ordinary user before bwrap is started: inside a user namespace of root,
any id still is root on the host, to whom files such as ``/proc/sys/kernel/core_pattern`` are writable.

How state persists: the files of a session lie in the mount namespace of a keeper process
(:mod:`pivotrl.sandbox.session_process`). Each command gets a new bwrap below it, with new namespaces of every kind;
processes, sockets and mounts of one command never meet those of another. Code in the sandbox gets no more reach by it
than by a bind mount. An overlay has the limits that Docker's has: renaming a directory that came with the environment
fails with EXDEV, and programs such as mv copy it instead.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pivotrl.protocols import InputError
from pivotrl.sandbox import seccomp
from pivotrl.sandbox.commands import FIRST_EXTRA_FD
from pivotrl.sandbox.interface import Limits
from pivotrl.sandbox.session_files import FULL
from pivotrl.sandbox.sessions import ETC, CommandLine

ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
    "HOME": "/tmp",  # noqa: S108 - the session's own
    "USER": "agent",
    "LANG": "C.UTF-8",
    "TMPDIR": "/tmp",  # noqa: S108
}
DIRECTORIES = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/alternatives")
FILES = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/protocols")
"""Everything of the machine that a command sees."""
_ARGUMENTS, _FILTER, _REPORT = range(FIRST_EXTRA_FD, FIRST_EXTRA_FD + 3)


def program() -> str:
    """The path of bwrap.

    Raises:
        InputError: it is not installed.
    """
    found = shutil.which("bwrap")
    if not found:
        raise InputError(
            "the sandbox 'bwrap' needs bubblewrap 0.8 or newer: apt install bubblewrap (dnf, pacman and apk call it so "
            "too). Model-written code never runs without a sandbox"
        )
    return str(Path(found).resolve())


class Builder:
    """Command line of one command of a session."""

    num_helpers = 3
    """The keeper, bwrap, and the first process of bwrap's namespace."""

    def __init__(self, work_dir: str, links: Mapping[str, str] = MappingProxyType({})) -> None:
        self.program = program()
        self._filter = seccomp.program()
        self._arguments = b"".join(word.encode() + b"\0" for word in arguments(work_dir, links))

    def __call__(self, command: Sequence[str]) -> CommandLine:
        # sh answers 126 and 127 where a program cannot be started, as a shell's user expects
        argv = [self.program, "--args", str(_ARGUMENTS), "--", "/bin/sh", "-c", 'exec "$@"', "sh", *command]
        return CommandLine(argv, lambda report: b"exit-code" in report, (self._arguments, self._filter))

    def rlimits(self, limits: Limits) -> dict[str, int]:
        """Address space and file size per process; processes per session."""
        processes = limits.num_processes + self.num_helpers
        return {"RLIMIT_AS": limits.memory_bytes, "RLIMIT_NPROC": processes, "RLIMIT_FSIZE": limits.disk_bytes}


def arguments(work_dir: str, links: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """bwrap's, without the command. They go through a file: no process list shows them.

    Args:
        links: path outside the work directory -> where a link there leads.
    """
    words = ["--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session", "--clearenv"]
    words += ["--uid", "1000", "--gid", "1000", "--hostname", "sandbox"]
    words += ["--seccomp", str(_FILTER), "--json-status-fd", str(_REPORT)]
    for name, value in ENVIRONMENT.items():
        words += ["--setenv", name, value]
    for name in DIRECTORIES:
        path = Path(name)
        words += ["--symlink", str(path.readlink()), name] if path.is_symlink() else ["--ro-bind-try", name, name]
    for name in FILES:
        words += ["--ro-bind-try", name, name]
    for name in ETC:
        words += ["--ro-bind", f"{FULL}/etc/{name}", f"/etc/{name}"]
    words += ["--proc", "/proc", "--dev", "/dev", "--bind", f"{FULL}/shm", "/dev/shm", "--remount-ro", "/dev"]  # noqa: S108
    words += ["--bind", f"{FULL}/tmp", "/tmp", "--bind", f"{FULL}/work", work_dir]  # noqa: S108
    for link, target in links.items():
        words += ["--symlink", target, link]
    return [*words, "--remount-ro", "/", "--chdir", work_dir]
