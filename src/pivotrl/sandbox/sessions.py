"""The orchestrator's side of a session: opened, commands run, output collected, effects asked for."""

from __future__ import annotations

import base64
import contextlib
import os
import select
import signal
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from pivotrl.protocols import InputError
from pivotrl.sandbox import messages, owner_mapping
from pivotrl.sandbox.cgroups import Group, Places
from pivotrl.sandbox.interface import Finished, Limits, SandboxFault
from pivotrl.sandbox.session_processes import NOBODY, Keepers
from pivotrl.sandbox.streams import UNFIT, Stream, content_file, unfit

NUM_OPEN_FILES = 1024
ETC = {
    "passwd": "root:x:0:0:root:/:/usr/sbin/nologin\nagent:x:1000:1000::/tmp:/bin/sh\n",
    "group": "root:x:0:\nagent:x:1000:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


@dataclass(frozen=True)
class CommandLine:
    """What a keeper runs, and how to know that it worked."""

    argv: Sequence[str]
    """A program by its path, and its arguments."""
    ran: Callable[[bytes], bool]
    """Whether the command was started at all, by what the program wrote to its report: the file after ``contents``."""
    contents: Sequence[bytes] = ()
    """What the program can read from files 10, 11, ..."""
    files: dict[str, str] = field(default_factory=dict)
    """Written to the session's tmpfs before."""


class Builder(Protocol):
    """The differences between the local backends."""

    @property
    def program(self) -> str:
        """Path of the program."""
        ...

    @property
    def num_helpers(self) -> int:
        """Processes and threads that the backend needs beside the command's."""
        ...

    def rlimits(self, limits: Limits) -> dict[str, int]:
        """Names of :mod:`resource` -> value: what bounds memory and processes where no control group does."""
        ...

    def __call__(self, command: Sequence[str]) -> CommandLine: ...


class KeptSession:
    """A session whose files a keeper holds; see :class:`pivotrl.sandbox.interface.Session`."""

    def __init__(
        self, keepers: Keepers, files: Path | None, limits: Limits, places: Places | None, build: Builder
    ) -> None:
        self._limits, self._build, self._group = limits, build, None
        self._keepers = keepers  # lives as long as this session does
        if files is not None and not (files.is_dir() and os.access(files, os.R_OK | os.X_OK)):
            raise InputError(f"{files}: not a directory that can be read; give the environment's directory")
        self._pidfd = -1
        self._channel, self._pid = keepers.fork()
        try:
            self._pidfd = os.pidfd_open(self._pid)
            if places:
                self._group = Group(places)
                self._group.limit(limits, build.num_helpers)
                self._group_limits = limits
                self._group.add(self._pid)
            self.restore = self._open(files.resolve() if files else None)
        except OSError as error:
            self.close()
            raise SandboxFault(f"no session could be opened: {error}") from error
        except BaseException:
            self.close()
            raise

    def _open(self, files: Path | None) -> str:
        """Use an overlay if possible, else a copy. Returns which."""
        request = {"do": "open", "files": str(files or ""), "tar": False}
        request |= {"disk_bytes": self._limits.disk_bytes, "etc": {f"etc/{name}": text for name, text in ETC.items()}}
        if files and os.getuid() == 0:
            try:
                tree = owner_mapping.clone(files, NOBODY, NOBODY)
            except OSError:
                return self._copy(files, request)
            try:
                answer = self._ask(request, (tree,))
            finally:
                os.close(tree)
        else:
            answer = self._ask(request)
        if "error" in answer:
            raise SandboxFault(f"no session could be opened: {answer['text']}")
        return str(answer["restore"])

    def _copy(self, files: Path, request: dict[str, Any]) -> str:
        reading, writing = os.pipe()
        messages.send(self._channel, {**request, "tar": True}, (reading,))
        os.close(reading)
        with os.fdopen(writing, "wb") as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
            archive.add(files, ".")
        answer = self._receive()
        if "error" in answer:
            raise SandboxFault(f"{files} could not be copied into the sandbox: {answer['text']}")
        return str(answer["restore"])

    def run(self, command: Sequence[str], *, stdin: bytes = b"", limits: Limits | None = None) -> Finished:
        if unfit(command):
            return UNFIT
        limits = replace(limits or self._limits, disk_bytes=self._limits.disk_bytes)
        line = self._build(command)
        request = {"do": "run", "argv": list(line.argv), "files": line.files, "wall_seconds": limits.wall_seconds}
        request |= {"rlimits": self._bound(limits), "watched_bytes": 0 if self._group else limits.memory_bytes}
        streams = [Stream(limits.output_bytes), Stream(limits.output_bytes), Stream(4096)]
        inputs = [content_file(content) for content in (stdin, *line.contents)]
        output, errors, report = streams
        try:
            self._send(request, (inputs[0], output.writing, errors.writing, *inputs[1:], report.writing))
            for stream in streams:
                stream.close_writing()
            answer = self._collect(streams, limits.wall_seconds)
        finally:
            for fd in inputs:
                os.close(fd)
            for stream in streams:
                stream.close()
        killed = answer["why"] != "ended" or answer["status"] < 0
        if not killed and not line.ran(report.kept()):
            raise SandboxFault(f"the sandbox could not be set up: {errors.kept().decode(errors='replace')[-2000:]}")
        return Finished(
            exit_code=None if killed else answer["status"],
            stdout=output.kept(),
            stderr=errors.kept(),
            timed_out=answer["why"] == "time",
            truncated=output.truncated or errors.truncated,
            wall_seconds=answer["seconds"],
        )

    def _bound(self, limits: Limits) -> dict[str, int]:
        """Set the control group, or say which resource limits stand for it."""
        always = {"RLIMIT_CORE": 0, "RLIMIT_NOFILE": NUM_OPEN_FILES}
        if not self._group:
            return always | self._build.rlimits(limits)
        if limits != self._group_limits:
            try:
                self._group.limit(limits, self._build.num_helpers)
            except OSError as error:
                raise SandboxFault(f"the session already holds more than these limits allow: {error}") from error
            self._group_limits = limits
        return always

    def _collect(self, streams: list[Stream], wall_seconds: float) -> dict[str, Any]:
        """Collect output until the keeper says that the command is gone; kill it if it floods."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        by_fd = {stream.reading: stream for stream in streams}
        for fd in by_fd:
            poll.register(fd, select.POLLIN)
        deadline, told = time.monotonic() + wall_seconds + 5.0, False
        while True:
            ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not ready:
                self.close()
                raise SandboxFault("the sandbox's keeper did not answer")
            for fd, _ in ready:
                if fd in by_fd and not by_fd[fd].take():
                    poll.unregister(fd)
            if not told and any(stream.flooded for stream in streams):
                told = True
                self._send({"do": "kill"})
            if any(fd == self._channel.fileno() for fd, _ in ready):
                answer = self._receive()
                for stream in streams:
                    while stream.take():
                        pass
                return answer

    def changes(self) -> dict[str, str]:
        answer = self._ask({"do": "changes"})
        if "error" in answer:
            raise SandboxFault(answer["text"])
        return dict(answer["changes"])

    def read(self, path: str, max_bytes: int) -> bytes:
        answer = self._ask({"do": "read", "path": path, "max_bytes": max_bytes})
        if answer.get("error") == "ValueError":
            raise SandboxFault(answer["text"])
        if "error" in answer:
            raise FileNotFoundError(path)
        return base64.b64decode(answer["data"])

    def _ask(self, request: dict[str, Any], fds: tuple[int, ...] = ()) -> dict[str, Any]:
        self._send(request, fds)
        return self._receive()

    def _send(self, request: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        try:
            messages.send(self._channel, request, fds)
        except OSError as error:
            raise SandboxFault(f"the session is closed or its keeper was killed: {error}") from error

    def _receive(self) -> dict[str, Any]:
        try:
            return messages.receive(self._channel)[0]
        except (EOFError, OSError) as error:
            raise SandboxFault("the session's keeper was killed") from error

    def close(self) -> None:
        """Ends the keeper with its mounts and files. May be called twice."""
        self._channel.close()
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._group:
            self._group.close()
            self._group = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
