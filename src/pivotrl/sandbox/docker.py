"""An adapter for a Docker daemon: one container per session, through the docker command.

The container has no network, a read-only root, no capabilities, no new privileges, and limits on memory and processes;
the work directory, /tmp and /dev/shm are sized tmpfs. The environment directory is copied in. Commands run as another
user than the container's first process, so that all of them can be killed and it cannot.

It has not been run against every daemon: run ``pivotrl doctor --sandbox docker`` before you rely on it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pivotrl.protocols import InputError
from pivotrl.sandbox.interface import Finished, Limits, SandboxFault
from pivotrl.sandbox.streams import UNFIT, Stream, content_file, unfit

_AGENT = "65534:65534"
_FIRST = "65533:65534"
_START_SECONDS = 120.0


class DockerSandbox:
    """See :class:`pivotrl.sandbox.interface.Sandbox`."""

    def __init__(self, image: str, work_dir: str) -> None:
        """``image`` must hold sh, sleep, kill and tar.

        Raises:
            InputError: there is no docker command, no daemon answers, or the image is missing.
        """
        if not shutil.which("docker"):
            raise InputError("the sandbox 'docker' needs the docker command: see docs.docker.com/engine/install")
        version = _docker("version", "--format", "{{.Server.Version}}")
        if version.returncode:
            raise InputError(
                "the sandbox 'docker' needs a Docker daemon that this user may use: start one, or set DOCKER_HOST "
                f"({version.stderr.decode(errors='replace').strip()[-200:]})"
            )
        found = _docker("image", "inspect", "--format", "{{.Id}}", image)
        if found.returncode:
            raise InputError(f"the sandbox 'docker' has no image {image!r}: docker pull {image}")
        self._image, self._work_dir = found.stdout.decode().strip(), work_dir
        self.identity: dict[str, Any] = {
            "backend": "docker",
            "level": "container",
            "restore": "copy",
            "version": version.stdout.decode().strip(),
            "image": self._image,
        }

    def open(self, files: Path | None = None, limits: Limits = Limits()) -> DockerSession:
        return DockerSession(self._image, self._work_dir, files, limits)

    def close(self) -> None:
        """Nothing is held between sessions."""


class DockerSession:
    """See :class:`pivotrl.sandbox.interface.Session`."""

    def __init__(self, image: str, work_dir: str, files: Path | None, limits: Limits) -> None:
        if files is not None and not files.is_dir():
            raise InputError(f"{files}: not a directory; give the environment's directory")
        self._limits, self._work_dir = limits, work_dir
        each = f"size={limits.disk_bytes // 2},mode=1777,nosuid,nodev,exec"
        memory = str(limits.memory_bytes + limits.disk_bytes)
        flags = ["--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--init"]
        flags += [f"--user={_FIRST}", f"--pids-limit={limits.num_processes + 3}", "--ipc=private", "--hostname=sandbox"]
        flags += [f"--memory={memory}", f"--memory-swap={memory}", f"--shm-size={limits.disk_bytes // 8}"]
        flags += [f"--tmpfs={work_dir}:{each}", f"--tmpfs=/tmp:{each}", "--workdir", work_dir]
        started = _docker("run", "--detach", "--rm", *flags, image, "sleep", "infinity")
        if started.returncode:
            raise SandboxFault(f"docker run: {started.stderr.decode(errors='replace').strip()[-500:]}")
        self._id = started.stdout.decode().strip()
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            if files:
                archive.add(files, ".", filter=_anonymous)
        done = _docker(
            "exec", "--interactive", f"--user={_AGENT}", self._id, "tar", "-xf", "-", content=packed.getvalue()
        )
        if done.returncode:
            self.close()
            raise SandboxFault(f"{files} could not be copied in: {done.stderr.decode(errors='replace')[-500:]}")
        self._before = self._fingerprints()

    def run(self, command: Sequence[str], *, stdin: bytes = b"", limits: Limits | None = None) -> Finished:
        if unfit(command):
            return UNFIT
        limits = limits or self._limits
        output, errors = streams = (Stream(limits.output_bytes), Stream(limits.output_bytes))
        content, began = content_file(stdin), time.monotonic()
        words = [
            "docker",
            "exec",
            "--interactive",
            f"--user={_AGENT}",
            f"--workdir={self._work_dir}",
            self._id,
            *command,
        ]
        try:
            process = subprocess.Popen(words, stdin=content, stdout=output.writing, stderr=errors.writing)  # noqa: S603
            for stream in streams:
                stream.close_writing()
            readers = [threading.Thread(target=_drain, args=(stream,), daemon=True) for stream in streams]
            for reader in readers:
                reader.start()
            why = ""
            while process.poll() is None and not why:
                why = "time" if time.monotonic() - began > limits.wall_seconds else ""
                why = why or ("flood" if any(stream.flooded for stream in streams) else "")
                time.sleep(0.005)
            self._kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
            process.kill()
            code = process.wait()
            for reader in readers:
                reader.join(1.0)
        finally:
            os.close(content)
            for stream in streams:
                stream.close()
        if not why and code == 125:
            raise SandboxFault(f"docker exec: {errors.kept().decode(errors='replace')[-500:]}")
        truncated = output.truncated or errors.truncated
        seconds = time.monotonic() - began
        return Finished(None if why else code, output.kept(), errors.kept(), why == "time", truncated, seconds)

    def _kill(self) -> None:
        """Every process of the command's user; the first process and its helper are another's."""
        _docker("exec", f"--user={_AGENT}", self._id, "kill", "-9", "-1")

    def changes(self) -> dict[str, str]:
        now = self._fingerprints()
        paths = sorted(set(now) | set(self._before))
        return {path: now.get(path, "deleted") for path in paths if now.get(path) != self._before.get(path)}

    def _fingerprints(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for member, data in self._members():
            name = member.name.removeprefix("./")
            if member.issym():
                found[name] = f"link {hashlib.sha256(os.fsencode(member.linkname)).hexdigest()}"
            elif member.isreg():
                found[name] = f"{hashlib.sha256(data).hexdigest()} {member.mode:04o}"
        return found

    def read(self, path: str, max_bytes: int) -> bytes:
        if path.startswith("/") or ".." in path.split("/"):
            raise FileNotFoundError(path)
        for member, data in self._members():
            if member.name.removeprefix("./") == path.removeprefix("./") and member.isreg():
                if len(data) > max_bytes:
                    raise SandboxFault(f"{path} is larger than {max_bytes:,} bytes")
                return data
        raise FileNotFoundError(path)

    def _members(self) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
        """What the work directory holds, hard links as files; read as it comes, up to a number of bytes in all."""
        words = ["docker", "exec", f"--user={_AGENT}", f"--workdir={self._work_dir}", self._id]
        budget = 4 * self._limits.disk_bytes
        words += ["tar", "--hard-dereference", "-cf", "-", "."]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as process:  # noqa: S603 - the docker command, no shell
            try:
                with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                    for member in archive:
                        budget -= member.size
                        if budget < 0:
                            raise SandboxFault("the changed files are too large to hash")
                        content = archive.extractfile(member) if member.isreg() else None
                        yield member, content.read() if content else b""
            except tarfile.TarError as error:
                raise SandboxFault(f"the work directory could not be read: {error}") from error
            finally:
                process.kill()

    def close(self) -> None:
        _docker("rm", "--force", self._id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _docker(*words: str, content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # noqa: S603 - the docker command, no shell
            ["docker", *words],  # noqa: S607
            input=content,
            capture_output=True,
            timeout=_START_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SandboxFault(f"docker {words[0]} did not answer in {_START_SECONDS:.0f} s") from error


def _drain(stream: Stream) -> None:
    os.set_blocking(stream.reading, True)
    while stream.take():
        pass


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 65534
    return member
