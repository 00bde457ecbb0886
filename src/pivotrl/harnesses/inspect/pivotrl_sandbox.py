"""A sandbox of Inspect AI that is pivotrl's: every command and file is in a container without network.

Run by the interpreter of the harness.
"""

import shlex
from pathlib import PurePosixPath

from container_client import Container
from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxEnvironment,
    SandboxEnvironmentLimits,
    sandboxenv,
)

NAME = "pivotrl"
HOME = "/work"
"""Where relative paths begin."""
_SECONDS = 120
_MOST = 32 * 1024 * 1024
"""Bytes of a file that is read; a longer output of the container would be cut."""
_IS_FOLDER, _IS_MISSING = 41, 42
folders = [HOME, "/var/tmp", "/opt"]  # noqa: S108 - paths inside the container
"""Writable, and empty at first."""


def need(path):
    """Make the folder above an absolute path writable."""
    parts = PurePosixPath(path).parts
    if parts[0] == "/" and len(parts) > 2 and parts[1] not in ("usr", "etc", "proc", "dev", "tmp", "var"):
        folders.append(f"/{parts[1]}")


@sandboxenv(name=NAME)
class PivotrlSandbox(SandboxEnvironment):
    def __init__(self, container):
        super().__init__()
        self._container = container

    @classmethod
    async def sample_init(cls, task_name, config, metadata):
        container = Container()
        await container.start(folders)
        return {"default": cls(container)}

    @classmethod
    async def sample_cleanup(cls, task_name, config, environments, interrupted):
        for environment in environments.values():
            await environment.as_type(cls)._container.stop()

    async def exec(
        self, cmd, input=None, cwd=None, env=None, user=None, timeout=None, timeout_retry=True, concurrency=True
    ):
        """Everybody is the same ordinary user."""
        data = input.encode() if isinstance(input, str) else input or b""
        place = str(PurePosixPath(HOME) / (cwd or ""))
        told = await self._container.run(shlex.join(cmd), place, {"HOME": HOME, **(env or {})}, timeout, data)
        if told.exit_code is None:
            raise TimeoutError(f"the command took more than {timeout} s")
        limit = SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE
        output, error = (one.decode(errors="replace") for one in (told.output, told.error))
        if max(len(told.output), len(told.error)) > limit:
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE_STR, output[:limit])
        return ExecResult(told.exit_code == 0, told.exit_code, output, error)

    async def write_file(self, file, contents):
        place = shlex.quote(str(PurePosixPath(HOME) / file))
        command = f"test ! -d {place} || exit {_IS_FOLDER}; mkdir -p $(dirname {place}) && cat > {place}"
        await self._done(command, file, contents.encode() if isinstance(contents, str) else contents)

    async def read_file(self, file, text=True):
        place = shlex.quote(str(PurePosixPath(HOME) / file))
        most = min(SandboxEnvironmentLimits.MAX_READ_FILE_SIZE, _MOST)
        tests = f"test ! -d {place} || exit {_IS_FOLDER}; test -e {place} || exit {_IS_MISSING}"
        data = await self._done(f"{tests}; head -c {most + 1} {place}", file)
        if len(data) > most:
            raise OutputLimitExceededError(f"{most // 1024**2} MiB", None)
        return data.decode() if text else data

    async def _done(self, command, file, data=b""):
        told = await self._container.run(command, HOME, seconds=_SECONDS, data=data)
        if told.exit_code == 0:
            return told.output
        if told.exit_code is None:
            raise TimeoutError(f"{file}: it took more than {_SECONDS} s")
        fault = {_IS_FOLDER: IsADirectoryError, _IS_MISSING: FileNotFoundError}.get(told.exit_code, PermissionError)
        raise fault(f"{file}: {told.error.decode(errors='replace')[-300:]}")
