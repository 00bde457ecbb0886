"""The local backends: a keeper for the files, bwrap or runsc for the commands, a self-test at the start."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.sandbox import bwrap, cgroups, gvisor, seccomp
from pivotrl.sandbox.interface import Limits, SandboxFault
from pivotrl.sandbox.session_processes import Keepers
from pivotrl.sandbox.sessions import KeptSession

_PROBE = """
while read -r name value rest; do
  case $name in Seccomp:|NoNewPrivs:|CapEff:|CapBnd:) echo "$name$value";; esac
done < /proc/self/status
cat probe
"""
_WANTED = {"bwrap": {"Seccomp:2", "NoNewPrivs:1", "CapEff:0000000000000000"}, "gvisor": {"CapEff:0000000000000000"}}


class LocalSandbox:
    """See :class:`pivotrl.sandbox.interface.Sandbox`."""

    def __init__(
        self,
        backend: str,
        *,
        require_cgroup: bool,
        work_dir: str,
        use_cgroup: bool = True,
        links: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """``use_cgroup=False`` is for tests: it behaves as if there were no control groups.

        Raises:
            InputError: as :func:`pivotrl.sandbox.open_sandbox`.
        """
        self._build = gvisor.Builder(work_dir) if backend == "gvisor" else bwrap.Builder(work_dir, links)
        self._places = cgroups.find() if use_cgroup else None
        if require_cgroup and not self._places:
            raise InputError(
                f"the sandbox {backend!r} has no control group: this user may not create one that limits memory and "
                "pids. Run as root, or under systemd-run --user --scope -p Delegate=yes, or do without require_cgroup"
            )
        self._keepers = Keepers()
        restore = self._check(backend)
        self.identity: dict[str, Any] = {
            "backend": backend,
            "level": "profile 2 + cgroup" if self._places else "profile 2, rlimits only",
            "cgroup": f"v{self._places.version}" if self._places else "none",
            "restore": restore,
            "filter": hashlib.sha256(seccomp.program()).hexdigest()[:16],
            "own_kernel": backend == "gvisor",
            "version": _version([self._build.program, "--version"]),
            "kernel": platform.release(),
            "machine": platform.machine(),
            "started_as": "root" if os.getuid() == 0 else "user",
        }

    def _check(self, backend: str) -> str:
        """Refuse unless the kernel confirms that the profile is active. Returns how a directory is restored."""
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "probe").write_text("seen\n")
            try:
                with self.open(Path(folder)) as session:
                    finished = session.run(["/bin/sh", "-c", _PROBE])
            except SandboxFault as error:
                raise InputError(
                    f"the sandbox {backend!r} does not work here: {error}. {_remedy(str(error))}"
                ) from error
        told = set(finished.stdout.decode(errors="replace").split())
        if missing := {*_WANTED[backend], "seen"} - told:
            raise InputError(
                f"the sandbox {backend!r} is too weak: {', '.join(sorted(missing))} is not active "
                f"({finished.stderr.decode(errors='replace').strip()[-300:]})"
            )
        return session.restore

    def open(self, files: Path | None = None, limits: Limits = Limits()) -> KeptSession:
        return KeptSession(self._keepers, files, limits, self._places, self._build)

    def close(self) -> None:
        """End the helper process. It ends with this process in any case."""
        self._keepers.close()


def _remedy(error: str) -> str:
    if "unshare" in error or "namespace" in error or "uid map" in error or "Operation not permitted" in error:
        return (
            "Unprivileged user namespaces are needed: sysctl kernel.unprivileged_userns_clone=1, "
            "kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces>0; in a container, "
            "--security-opt seccomp=unconfined"
        )
    return ""


def _version(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={})  # noqa: S603 - found by us
    return (done.stdout.splitlines() or ["unknown"])[0]
