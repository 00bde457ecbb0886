# ruff: noqa: S108
"""A sandbox that looks right and is not: bwrap with reasonable flags, started by whoever runs the tests.

The twin of the real one, for the attack suite: a suite that finds nothing here would find nothing anywhere.
"""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pivotrl.sandbox import Finished, Limits


class ReasonableSandbox:
    def __init__(self) -> None:
        self.identity = {"backend": "bwrap", "level": "profile 1"}

    def open(self, files: Path | None = None, limits: Limits = Limits()) -> "ReasonableSession":
        return ReasonableSession(files, limits)


class ReasonableSession:
    def __init__(self, files: Path | None, limits: Limits) -> None:
        self.limits, self.folder = limits, Path(tempfile.mkdtemp())
        self.folder.chmod(0o777)
        if files:
            shutil.copytree(files, self.folder, symlinks=True, dirs_exist_ok=True)

    def run(self, command: Sequence[str], *, stdin: bytes = b"", limits: Limits | None = None) -> Finished:
        limits = limits or self.limits
        words = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
        words += ["--uid", "65534", "--gid", "65534", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin"]
        words += [
            "--symlink",
            "usr/lib",
            "/lib",
            "--symlink",
            "usr/lib64",
            "/lib64",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
        ]
        words += ["--tmpfs", "/tmp", "--bind", str(self.folder), "/work", "--chdir", "/work"]
        words += ["--setenv", "PATH", "/usr/bin:/bin", "--", *command]
        began, late = time.monotonic(), False
        with subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=None
        ) as process:
            try:
                out, err = process.communicate(stdin, timeout=limits.wall_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                late = True
                out, err = process.communicate()
        code = None if late else process.returncode
        return Finished(code, out, err, late, False, time.monotonic() - began)

    def changes(self) -> dict[str, str]:
        return {}

    def read(self, path: str, max_bytes: int) -> bytes:
        return (self.folder / path).read_bytes()[:max_bytes]

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> "ReasonableSession":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
