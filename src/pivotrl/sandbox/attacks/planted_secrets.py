"""What on the host would show a breach: secrets, files, listeners, a process. All of it is gone afterwards."""

# ruff: noqa: S108 - the paths are what is attacked

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from pivotrl.sandbox.session_processes import NOBODY

SYSTEM_DIRECTORIES = (
    *("/", "/bin", "/boot", "/dev", "/dev/shm", "/etc", "/home", "/lib", "/mnt", "/opt", "/proc", "/root", "/run"),
    *("/sbin", "/srv", "/sys", "/sys/fs/cgroup", "/tmp", "/usr", "/usr/bin", "/usr/lib", "/usr/local", "/usr/sbin"),
    *("/usr/share", "/var", "/var/lib", "/var/tmp", "/var/run"),
)
CANARY = "PIVOTRL_CANARY"
_WAIT = "import ctypes, time; ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1)); time.sleep(3600)"
"""Lets everybody trace it (PR_SET_PTRACER), where Yama would forbid it: else the controls would fail there."""
_PYTHON = next((path for path in ("/usr/bin/python3", "/usr/local/bin/python3") if Path(path).exists()), "python3")


class Bait:
    """Context manager. Where root starts the suite, all of it belongs to the user that root becomes for the sandbox:
    the worst case, and the one in which the controls can be run without harm."""

    python = _PYTHON

    def __enter__(self) -> Self:
        self.nonce = secrets.token_hex(12)
        self.secrets = {name: secrets.token_hex(16).encode() for name in ("file", "environment", "process", "argument")}
        self.folder = Path(tempfile.mkdtemp(prefix="bait-"))
        self.secret, self.open_file = self.folder / "secret", self.folder / "open"
        self.secret.write_bytes(self.secrets["file"])
        self.open_file.write_text("untouched")
        self.scratch, self.environment = self.folder / "scratch", self.folder / "environment"
        self.scratch.mkdir()
        self.environment.mkdir()
        (self.environment / "file").write_text("as it was")
        (self.environment / "link").symlink_to(self.secret)
        self.own()
        self._inherited = os.open(self.secret, os.O_RDONLY)
        os.set_inheritable(self._inherited, True)
        os.environ[CANARY] = self.secrets["environment"].decode()
        self._listen()
        self._process: subprocess.Popen[bytes] | None = None
        self.process()
        self.reset()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del os.environ[CANARY]
        os.close(self._inherited)
        for listener in self.listeners.values():
            listener.close()
        if self._process:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def names(self) -> dict[str, str]:
        """What attempts can be told."""
        paths = {"secret": self.secret, "open": self.open_file, "folder": self.folder, "scratch": self.scratch}
        texts = {name: str(path) for name, path in paths.items()} | {"environment": str(self.environment)}
        texts["processes"] = str(Path("/proc/self/ns/pid").readlink())
        return texts | self.addresses | {"nonce": self.nonce, "pid": str(self.process()), "parent": str(os.getpid())}

    @property
    def user(self) -> dict[str, object]:
        """For subprocess: run as the sandbox's user."""
        return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}

    def own(self) -> None:
        """Open to everybody, so that nothing but the sandbox protects it."""
        for path in (self.folder, *self.folder.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o777 if path.is_dir() else 0o666)
                if os.getuid() == 0:
                    os.chown(path, NOBODY, NOBODY)

    def is_secret(self, data: bytes) -> bool:
        """Holds a secret, or is the fingerprint of one."""
        found = self.secrets.values()
        return any(s in data or hashlib.sha256(s).hexdigest().encode() in data for s in found)

    # --- files

    def _state(self) -> dict[str, bytes]:
        paths = (path for path in sorted(self.folder.rglob("*")) if self.scratch not in (path, *path.parents))
        return {str(p): p.read_bytes() if p.is_file() else b"" for p in paths if not p.is_socket()}

    def reset(self) -> None:
        """Before each attempt and each control."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        for name in ("usr", "etc", "d"):
            (self.scratch / name).mkdir()
        for name, text in (("sysctl", "1"), ("resolv", "nameserver 192.0.2.53"), ("devices", "\n\neth0: 0\n")):
            (self.scratch / name).write_text(text)
        self.open_file.unlink(missing_ok=True)
        self.open_file.write_text("untouched")
        (self.environment / "file").unlink(missing_ok=True)
        (self.environment / "file").write_text("as it was")
        for path in (self.folder / self.nonce, self.environment / self.nonce):
            path.unlink(missing_ok=True)
        self.own()
        self.heard()
        self.process()
        self._before = self._state()

    def difference(self) -> str:
        """Which file of the bait's is not as it was."""
        after = self._state()
        names = {name for name in self._before.keys() | after if self._before.get(name) != after.get(name)}
        return ", ".join(f"{Path(name).name} changed" for name in sorted(names))

    def marks(self) -> Iterator[Path]:
        for directory in (*SYSTEM_DIRECTORIES, str(self.scratch / "usr")):
            yield Path(directory, self.nonce)

    @staticmethod
    def unlink(path: Path) -> bool:
        """Whether it was there."""
        try:
            path.unlink()
        except OSError:
            return False
        return True

    # --- network

    def _listen(self) -> None:
        self.listeners: dict[str, socket.socket] = {}
        self.addresses: dict[str, str] = {}
        places = [("tcp4", socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1"), ("udp4", socket.AF_INET, 2, "127.0.0.1")]
        places += [("tcp6", socket.AF_INET6, socket.SOCK_STREAM, "::1"), ("udp6", socket.AF_INET6, 2, "::1")]
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # sends nothing; asks which address of ours would be taken
            places += [("outside", socket.AF_INET, socket.SOCK_STREAM, probe.getsockname()[0])]
        for name, family, kind, address in places:
            with contextlib.suppress(OSError):
                listener = socket.socket(family, kind)
                listener.bind((address, 0))
                self._keep(name, listener, f"{address} {listener.getsockname()[1]}")
        for name, path in (("unix", str(self.folder / "socket")), ("abstract", f"\0{self.nonce}")):
            for suffix, kind in (("", socket.SOCK_STREAM), ("_datagram", socket.SOCK_DGRAM)):
                listener = socket.socket(socket.AF_UNIX, kind)
                listener.bind(path + suffix)
                self._keep(name + suffix, listener, (path + suffix).replace("\0", "@"))

    def _keep(self, name: str, listener: socket.socket, address: str) -> None:
        if listener.type == socket.SOCK_STREAM:
            listener.listen()
        listener.setblocking(False)
        self.listeners[name], self.addresses[name] = listener, address

    def heard(self) -> list[str]:
        """The listeners that were spoken to since this was last asked."""
        found = []
        for name, listener in self.listeners.items():
            with contextlib.suppress(BlockingIOError):
                while True:
                    if listener.type == socket.SOCK_STREAM:
                        listener.accept()[0].close()
                    else:
                        listener.recv(1024)
                    found.append(f"{name} was spoken to")
        return found

    # --- processes

    def process(self) -> int:
        """A process that waits, with a secret in its environment and one in its command line. Started when gone."""
        if self._process and not self.harm():
            return self._process.pid
        if self._process:
            self._process.kill()
            self._process.wait()
        words = [self.python, "-c", _WAIT, self.secrets["argument"].decode()]
        environment = {"SECRET": self.secrets["process"].decode()}
        self._process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, **self.user)  # type: ignore[call-overload] # noqa: S603
        time.sleep(0.03)
        return int(self._process.pid)

    def harm(self, patience_seconds: float = 0.0) -> str:
        """What happened to the process. A signal takes effect when its process next runs: on a busy machine that needs
        patience, or a kill by the control would be laid to the attack after it."""
        deadline = time.monotonic() + patience_seconds
        while not (found := self._harm()) and time.monotonic() < deadline:
            time.sleep(0.01)
        return found

    def _harm(self) -> str:
        assert self._process
        if self._process.poll() is not None:
            return "the bait process was killed"
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
                if line.startswith("State:") and line.split()[1] in "Tt":
                    return "the bait process was stopped"
                if line.startswith("TracerPid:") and line.split()[1] != "0":
                    return "the bait process is traced"
        return ""

    def survivor(self) -> int | None:
        """A process whose command line holds the nonce."""
        mark = self.nonce.encode()
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_bytes().split(b"\0")
                if mark in words and int(path.parent.name) != os.getpid():
                    return int(path.parent.name)
        return None
