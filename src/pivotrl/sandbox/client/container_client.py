"""A lasting container of pivotrl's sandbox, for a program that runs in another interpreter.

It starts ``python -m pivotrl.sandbox.container`` and speaks with it in JSON lines. The environment variables
``PIVOTRL_PYTHON`` and ``PIVOTRL_SOURCE`` name pivotrl's interpreter and the folder of its package.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_LINE = 128 * 1024 * 1024
"""Bytes of the longest line read."""


@dataclass(frozen=True)
class Told:
    """What became of a command."""

    exit_code: int | None
    """None: it was killed for its time."""
    output: bytes
    error: bytes


class Container:
    """Its processes and files last until :meth:`stop`."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def start(self, folders: Iterable[str], mebibytes: int = 256) -> None:
        """
        Args:
            folders: absolute paths that are empty and writable inside.
            mebibytes: the size of each.
        """
        words = ["-m", "pivotrl.sandbox.container", "--mebibytes", str(mebibytes), *dict.fromkeys(folders)]
        self._process = await asyncio.create_subprocess_exec(
            os.environ["PIVOTRL_PYTHON"],
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.environ["PIVOTRL_SOURCE"]},
            limit=_LINE,
        )
        self._reading = asyncio.create_task(self._read())

    async def stop(self) -> None:
        """End it and everything in it."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        if self._reading is not None:
            self._reading.cancel()
        self._process = None

    async def run(
        self,
        command: str,
        folder: str = "/",
        environment: dict[str, str] | None = None,
        seconds: float | None = None,
        data: bytes = b"",
    ) -> Told:
        """Run a shell command.

        Args:
            data: its standard input.

        Raises:
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
        told = await self._waiting[number]
        return Told(told["exit_code"], base64.b64decode(told["output"]), base64.b64decode(told["error"]))

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
