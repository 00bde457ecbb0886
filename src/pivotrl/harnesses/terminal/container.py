"""An environment class for Harbor, run by Harbor's own interpreter: the task in pivotrl's sandbox instead of docker.

It starts ``python -m pivotrl.sandbox.container`` of another interpreter and speaks with it in JSON lines. Files go in
and out as archives made inside, so no link in the container leads to a file outside.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import itertools
import json
import os
import shlex
import tarfile
from pathlib import Path
from typing import Any

from harbor.environments.base import BaseEnvironment, ExecResult
from harbor.environments.capabilities import EnvironmentCapabilities, EnvironmentResourceCapabilities

_FOLDERS = ("/logs", "/tests", "/solution", "/runtime", "/installed-agent")
_LINE = 128 * 1024 * 1024
"""Bytes of the longest line read."""
_BUILD_SECONDS = 60.0


class SandboxContainer(BaseEnvironment):  # type: ignore[misc]
    """What the task needs is told by the environment variables that begin with ``PIVOTRL_``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._workdir = os.environ["PIVOTRL_WORKDIR"]
        self._process: asyncio.subprocess.Process | None = None
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading: asyncio.Task[None] | None = None
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
        words = [os.environ["PIVOTRL_PYTHON"], "-m", "pivotrl.sandbox.container", "--mebibytes", "256"]
        folders = dict.fromkeys(("/" + self._workdir.strip("/").split("/")[0], *_FOLDERS))
        self._process = await asyncio.create_subprocess_exec(
            *words,
            *folders,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.environ["PIVOTRL_SOURCE"]},
            limit=_LINE,
        )
        self._reading = asyncio.create_task(self._read())
        made = f"mkdir -p {shlex.quote(self._workdir)} /logs/agent /logs/verifier /logs/artifacts"
        await self._ask(f"{made} && chmod -R 777 /logs", seconds=_BUILD_SECONDS)
        await self.upload_dir(os.environ["PIVOTRL_FILES"], self._workdir)

    async def stop(self, delete: bool) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        if self._reading is not None:
            self._reading.cancel()
        self._process = None

    async def exec(
        self,
        command: str,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        timeout_sec: int | None = None,
        user: str | int | None = None,
    ) -> ExecResult:
        """Everybody is the same ordinary user."""
        told = await self._ask(command, cwd or self._workdir, self._merge_env(env) or {}, timeout_sec)
        if told["exit_code"] is None:
            raise TimeoutError(f"the command took more than {timeout_sec} s")
        output, error = (base64.b64decode(told[name]).decode(errors="replace") for name in ("output", "error"))
        return ExecResult(stdout=output, stderr=error, return_code=told["exit_code"])

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
        told = await self._ask(command, "/", {}, 120, data)
        if told["exit_code"] != 0:
            error = base64.b64decode(told["error"]).decode(errors="replace")
            raise RuntimeError(f"{command!r:.200} fails in the container: {error[-300:]}")
        return base64.b64decode(told["output"])

    async def _ask(
        self,
        command: str,
        folder: str = "/",
        environment: dict[str, str] | None = None,
        seconds: float | None = None,
        data: bytes = b"",
    ) -> dict[str, Any]:
        """Raises:
        RuntimeError: the container is gone.
        """
        if self._process is None or self._process.stdin is None or self._reading is None or self._reading.done():
            raise RuntimeError("the container is gone")
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        request = {"id": number, "command": command, "folder": folder, "environment": environment or {}}
        request |= {"seconds": seconds, "input": base64.b64encode(data).decode()}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        await self._process.stdin.drain()
        return await self._waiting[number]

    async def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        try:
            while line := await self._process.stdout.readline():
                told = json.loads(line)
                if (waiting := self._waiting.pop(told["id"], None)) is not None and not waiting.done():
                    waiting.set_result(told)
        finally:
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(RuntimeError("the container is gone"))
            self._waiting.clear()
