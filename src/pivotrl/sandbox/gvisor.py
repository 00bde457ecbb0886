"""The backend for hostile code that may know a hole of the kernel: gVisor, whose kernel runs as an ordinary process.

``runsc`` from the distribution or from gvisor.dev, rootless, without a network, on a platform that needs no
virtualisation. Files and their limits are those of bwrap's sessions (:mod:`pivotrl.sandbox.session_process`); a command
costs some 0.2 s. System calls end in gVisor's kernel; the calls that :mod:`pivotrl.sandbox.seccomp` forbids are
forbidden there too.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.sandbox import seccomp
from pivotrl.sandbox.bwrap import DIRECTORIES, ENVIRONMENT, FILES
from pivotrl.sandbox.commands import FIRST_EXTRA_FD
from pivotrl.sandbox.interface import Limits, SandboxFault
from pivotrl.sandbox.session_files import FULL
from pivotrl.sandbox.sessions import ETC, CommandLine

_REPORT = FIRST_EXTRA_FD
_SOCKETS = ("socket", "socketpair")
_NUM_FAMILIES = 46


def program() -> str:
    """The path of runsc.

    Raises:
        InputError: it is not installed.
    """
    found = shutil.which("runsc")
    if not found:
        raise InputError(
            "the sandbox 'gvisor' needs runsc: apt install runsc (Debian), or see gvisor.dev/docs/user_guide/install"
        )
    return str(Path(found).resolve())


class Builder:
    """Command line of one command of a session."""

    num_helpers = 128
    """The threads of runsc's four processes. Each sandboxed process is one of the machine's too."""

    def __init__(self, work_dir: str) -> None:
        self.program = program()
        self._config = config(work_dir)
        self._numbers = count()

    def __call__(self, command: Sequence[str]) -> CommandLine:
        if any(word.encode(errors="replace").decode() != word for word in command):
            raise SandboxFault("gVisor takes its arguments as JSON: it cannot take bytes that are not UTF-8")
        process = {**self._config["process"], "args": ["/bin/sh", "-c", 'exec "$@"', "sh", *command]}
        files = {"bundle/config.json": json.dumps({**self._config, "process": process}), "bundle/rootfs/.keep": ""}
        flags = ["--rootless", f"--root={FULL}/state", "--network=none", "--platform=ptrace", "--ignore-cgroups"]
        flags += [f"--log-fd={_REPORT}", "--oci-seccomp"]
        argv = [self.program, *flags, "run", "--bundle", f"{FULL}/bundle", f"command{next(self._numbers)}"]
        return CommandLine(argv, lambda report: b"FATAL" not in report and b"error" not in report, files=files)

    def rlimits(self, limits: Limits) -> dict[str, int]:
        """Processes alone: gVisor's kernel reserves address space and files far beyond what it uses."""
        return {"RLIMIT_NPROC": limits.num_processes + self.num_helpers}


def config(work_dir: str) -> dict[str, Any]:
    """An OCI runtime configuration, without the command."""
    read_only = [path for path in (*DIRECTORIES, *FILES) if Path(path).exists()]
    mounts = [{"destination": "/proc", "type": "proc", "source": "proc"}, {"destination": "/dev", "type": "tmpfs"}]
    mounts += [_bind(path, path, "ro") for path in read_only]
    mounts += [_bind(f"{FULL}/etc/{name}", f"/etc/{name}", "ro") for name in ETC]
    mounts += [_bind(f"{FULL}/shm", "/dev/shm", "rw"), _bind(f"{FULL}/tmp", "/tmp", "rw")]  # noqa: S108
    mounts += [_bind(f"{FULL}/work", work_dir, "rw")]
    process = {
        "user": {"uid": 0, "gid": 0},  # of gVisor's kernel, without capabilities; the one id that there is
        "env": [f"{name}={value}" for name, value in ENVIRONMENT.items()],
        "cwd": work_dir,
        "capabilities": {},
        "noNewPrivileges": True,
    }
    namespaces = [{"type": name} for name in ("pid", "ipc", "uts", "mount", "network")]
    return {
        "ociVersion": "1.0.0",
        "process": process,
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "sandbox",
        "mounts": mounts,
        "linux": {"namespaces": namespaces, "seccomp": _seccomp()},
    }


def _bind(source: str, destination: str, mode: str) -> dict[str, Any]:
    return {"destination": destination, "type": "bind", "source": source, "options": [mode, "rbind"]}


def _seccomp() -> dict[str, Any]:
    families = [family for family in range(_NUM_FAMILIES) if family not in seccomp.FAMILIES]
    rules: list[dict[str, Any]] = [{"names": list(seccomp.FORBIDDEN), "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]
    rules += [{"names": list(seccomp.ABSENT), "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]
    for family in families:
        argument = {"index": 0, "value": family, "op": "SCMP_CMP_EQ"}
        rules += [{"names": list(_SOCKETS), "action": "SCMP_ACT_ERRNO", "errnoRet": 97, "args": [argument]}]
    return {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules}
