"""An environment class for Harbor, run by Harbor's own interpreter: the task in pivotrl's sandbox instead of docker.

Files go in and out as archives made inside, so no link in the container leads to a file outside.
"""

from __future__ import annotations

import io
import os
import shlex
import tarfile
from pathlib import Path
from typing import Any

from container_client import Container
from harbor.environments.base import BaseEnvironment, ExecResult
from harbor.environments.capabilities import EnvironmentCapabilities, EnvironmentResourceCapabilities

_FOLDERS = ("/logs", "/tests", "/solution", "/runtime", "/installed-agent")
_BUILD_SECONDS = 60.0


class SandboxContainer(BaseEnvironment):  # type: ignore[misc]
    """What the task needs is told by the environment variables that begin with ``PIVOTRL_``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._workdir = os.environ["PIVOTRL_WORKDIR"]
        self._container = Container()
        super().__init__(*args, **options)

    @staticmethod
    def type() -> str:
        return "pivotrl-sandbox"

    @property
    def capabilities(self) -> EnvironmentCapabilities:
        return EnvironmentCapabilities(disable_internet=True)

    @classmethod
    def resource_capabilities(cls) -> EnvironmentResourceCapabilities | None:
        return None

    def _validate_definition(self) -> None:
        """pivotrl has read the task's Dockerfile before."""

    async def start(self, force_build: bool) -> None:
        await self._container.start(("/" + self._workdir.strip("/").split("/")[0], *_FOLDERS))
        made = f"mkdir -p {shlex.quote(self._workdir)} /logs/agent /logs/verifier /logs/artifacts"
        await self._container.run(f"{made} && chmod -R 777 /logs", seconds=_BUILD_SECONDS)
        await self.upload_dir(os.environ["PIVOTRL_FILES"], self._workdir)

    async def stop(self, delete: bool) -> None:
        await self._container.stop()

    async def exec(
        self,
        command: str,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        timeout_sec: int | None = None,
        user: str | int | None = None,
    ) -> ExecResult:
        """Everybody is the same ordinary user."""
        told = await self._container.run(command, cwd or self._workdir, self._merge_env(env) or {}, timeout_sec)
        if told.exit_code is None:
            raise TimeoutError(f"the command took more than {timeout_sec} s")
        output, error = (data.decode(errors="replace") for data in (told.output, told.error))
        return ExecResult(stdout=output, stderr=error, return_code=told.exit_code)

    async def upload_file(self, source_path: Path | str, target_path: str) -> None:
        place = shlex.quote(target_path)
        mode = oct(Path(source_path).stat().st_mode & 0o777)[2:]
        await self._required(
            f"mkdir -p $(dirname {place}) && cat > {place} && chmod {mode} {place}", Path(source_path).read_bytes()
        )

    async def upload_dir(self, source_dir: Path | str, target_dir: str) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(source_dir, arcname=".")
        place = shlex.quote(target_dir)
        await self._required(f"mkdir -p {place} && tar -C {place} -xf - --no-same-owner -m", buffer.getvalue())

    async def download_file(self, source_path: str, target_path: Path | str) -> None:
        data = await self._required(f"cat {shlex.quote(source_path)}")
        Path(target_path).parent.mkdir(parents=True, exist_ok=True)
        Path(target_path).write_bytes(data)

    async def download_dir(self, source_dir: str, target_dir: Path | str) -> None:
        data = await self._required(f"tar -C {shlex.quote(source_dir)} -cf - .")
        Path(target_dir).mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            archive.extractall(target_dir, filter="data")

    async def _required(self, command: str, data: bytes = b"") -> bytes:
        """Raises:
        RuntimeError: the command fails.
        """
        told = await self._container.run(command, seconds=120, data=data)
        if told.exit_code != 0:
            raise RuntimeError(f"{command!r:.200} fails in the container: {told.error.decode(errors='replace')[-300:]}")
        output: bytes = told.output
        return output
