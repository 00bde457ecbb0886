"""Shell tasks: a prompt, a directory of files, and one tool, ``bash``, whose commands run in a sandbox.

A task is a folder (:mod:`pivotrl.reading.formats.shell_tasks`). Commands share files but no process: each runs in a
new shell that starts in the work directory.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.judging.replay import replay
from pivotrl.options import AtLeast1, Positive
from pivotrl.protocols import NotRestorable, Observation, Turn
from pivotrl.reading.formats.shell_tasks import Task, load_tasks
from pivotrl.records import Action, Message, Tool, ToolCall
from pivotrl.records.strict_json import parse_arguments
from pivotrl.sandbox import Limits, Sandbox, SandboxFault, Session, open_sandbox
from pivotrl.text.styles import bash

BASH = Tool(
    name="bash",
    description="Run a command in a new shell that starts in the work directory.",
    parameters={
        "type": "object",
        "properties": {"command": {"type": "string"}},
        "required": ["command"],
        "additionalProperties": False,
    },
)

_SHELL = ("/usr/bin/env", "LC_ALL=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1", "PYTHONHASHSEED=0", "bash", "--norc", "-c")
"""Byte code depends on the time, and hashes are random by default: both would make every state differ."""
_OUTSIDE = (
    *("find", ".", "/tmp", "/dev/shm"),  # noqa: S108 - paths inside the sandbox
    *("!", "(", "-path", "./*", "(", "-type", "f", "-o", "-type", "l", ")", ")"),
    *("-printf", "%y %m %p %l\\0", "-type", "f", "-exec", "sha256sum", "-z", "{}", "+"),
)
"""Lists what a session's own changes leave out: directories, and files outside the work directory."""


class ShellTask:
    """One task as an environment. A message without a command ends the episode.

    Args:
        task, folder: as loaded.
        sandbox: where commands run.
        limits: limits of each command.
        max_turns: the episode ends after this number of actions, and the files at that point are judged.
    """

    context_window: int | None = None
    tools = (BASH,)

    def __init__(self, task: Task, folder: Path, sandbox: Sandbox, limits: Limits, max_turns: int) -> None:
        self.task_id, self.tags = task.id, dict[str, str]()
        self._task, self._files, self._check_files = task, folder / "files", folder / "check"
        self._sandbox, self._limits, self._max_turns = sandbox, limits, max_turns
        self._session: Session | None = None
        self._num_turns = 0

    def reset(self) -> tuple[Message, ...]:
        """Raises:
        SandboxFault: the sandbox cannot be started.
        """
        self.close()
        self._session = self._sandbox.open(self._files if self._files.is_dir() else None, self._limits)
        self._num_turns = 0
        return (Message(role="user", content=self._task.prompt),)

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def step(self, action: Action) -> Observation:
        assert self._session is not None, "reset it first"
        self._num_turns += 1
        try:
            commands = _commands(action)
        except ValueError as error:
            told = [f"[not executed: {error}]"] * max(1, len(action.tool_calls))
            return self._unless_last(Observation(_answers(action.tool_calls, told), fault="not_executed"))
        try:
            if not commands:
                return Observation((), self._reward(), done=True, reason="finished", fault="not_executed")
            results = [self._run(self._session, command) for command in commands]
            messages = _answers(action.tool_calls, [told for told, _, _ in results])
            fault = next((fault for _, _, fault in results if fault), "")
            return self._unless_last(Observation(messages, returned=[value for _, value, _ in results], fault=fault))
        except SandboxFault as error:
            return Observation((), done=True, reason=f"sandbox_failed: {error}", fault="sandbox_failed")

    def _run(self, session: Session, command: str) -> tuple[str, Any, str]:
        """(text for the agent, value to compare, fault)"""
        finished = session.run([*_SHELL, command], limits=self._limits)
        data = finished.stdout + finished.stderr
        output = data.decode(errors="backslashreplace")
        if finished.timed_out:
            ending, fault = f"[killed after {self._limits.wall_seconds:g} s]", "time_limit"
        elif finished.truncated:
            ending, fault = f"[output cut to {len(data)} bytes]", "output_truncated"
        elif finished.exit_code is None:
            ending, fault = "[killed: it took too much memory]", "killed"
        else:
            ending, fault = f"[exit code {finished.exit_code}]", ""
        value = {"exit_code": finished.exit_code, "output": self.masked(output)}
        if output.encode() != data:  # not UTF-8: the text does not determine the bytes
            value["bytes"] = data.hex()
        separator = "" if output.endswith("\n") or not output else "\n"
        return f"{output}{separator}{ending}", value, fault

    def _unless_last(self, observation: Observation) -> Observation:
        if self._num_turns < self._max_turns:
            return observation
        return dataclasses.replace(observation, reward=self._reward(), done=True, reason="too_many_turns")

    def masked(self, text: str) -> str:
        """The text with the task's volatile parts masked."""
        for pattern in self._task.volatile:
            text = re.sub(pattern, "<volatile>", text)
        return text

    def state(self) -> Any:
        """Files and links in the work directory that changed since the task began, and everything outside it.

        Raises:
            NotRestorable: the state is too large or unreadable, or the sandbox failed.
        """
        assert self._session is not None
        try:
            outside = self._session.run(_OUTSIDE, limits=self._limits)
            changed = self._session.changes()
        except SandboxFault as error:
            raise NotRestorable("sandbox_failed", str(error)) from error
        if outside.exit_code != 0 or outside.truncated or any("unreadable" in what for what in changed.values()):
            raise NotRestorable("state_not_readable", outside.stderr.decode(errors="replace")[:200])
        return {"changed": changed, "outside": sorted(outside.stdout.decode(errors="backslashreplace").split("\0"))}

    def controls(self) -> Iterator[tuple[ShellTask, bool]]:
        """The task with an empty work directory, where error messages may differ, and with different and longer
        content in every file."""
        for alter in (False, True):
            with tempfile.TemporaryDirectory() as name:
                files = Path(name, "files")
                if alter:
                    self._copy_files(files)
                    plain = [path for path in files.rglob("*") if path.is_file() and not path.is_symlink()]
                    for number, path in enumerate(sorted(plain), start=1):
                        path.write_bytes(_altered(path.read_bytes(), number))
                control = ShellTask(self._task, Path(name), self._sandbox, self._limits, self._max_turns)
                control.reset()
                yield control, alter

    def _reward(self) -> float | None:
        """The reward as checked from outside; None if the task has no check or the check did not finish."""
        if not self._task.expected_files and self._task.check is None:
            return None
        for path, content in self._task.expected_files.items():
            if self._read(path) != (None if content is None else content.encode()):
                return 0.0
        check = self._task.check
        if check is None:
            return 1.0
        with tempfile.TemporaryDirectory() as name:
            self._copy_files(Path(name))
            if self._check_files.is_dir():
                shutil.copytree(self._check_files, name, dirs_exist_ok=True)
            with self._sandbox.open(Path(name), self._limits) as session:
                finished = session.run([*_SHELL, check.command])
        if finished.exit_code is None:
            return None
        printed = check.stdout is None or (finished.stdout == check.stdout.encode() and not finished.truncated)
        return float(finished.exit_code == check.exit_code and printed)

    def _read(self, path: str) -> bytes | None:
        assert self._session is not None
        try:
            return self._session.read(path, self._limits.disk_bytes)
        except FileNotFoundError:
            return None

    def _copy_files(self, folder: Path) -> None:
        """Copy the current work directory. Changed files must be regular, since a link may lead anywhere."""
        assert self._session is not None
        folder.mkdir(parents=True, exist_ok=True)
        if self._files.is_dir():
            shutil.copytree(self._files, folder, symlinks=True, dirs_exist_ok=True)
        changed = sorted(self._session.changes().items())
        for path, _ in changed:
            if (folder / path).is_dir() and not (folder / path).is_symlink():
                shutil.rmtree(folder / path)  # a file now
            else:
                (folder / path).unlink(missing_ok=True)
        for path, what in changed:
            data = None if what == "deleted" else self._read(path)
            if data is not None:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(data)
                (folder / path).chmod(int(what.split()[-1], 8) | 0o400)


def _commands(action: Action) -> list[str]:
    """The commands of the action's calls or of its single shell block; none for a plain message.

    Raises:
        ValueError: a call is not a valid call of bash.
    """
    found = []
    for call in action.tool_calls or bash.parse(action.content or "", ()).tool_calls:
        arguments = parse_arguments(call.arguments)
        command = arguments.get("command")
        if call.name != "bash" or len(arguments) != 1 or not isinstance(command, str) or "\0" in command:
            raise ValueError("call bash with a command")
        found.append(command)
    return found


def _answers(calls: Sequence[ToolCall], texts: Sequence[str]) -> tuple[Message, ...]:
    """The answers to the agent: a tool message per call, or a user message for a shell block."""
    if not calls:
        return tuple(Message(role="user", content=text) for text in texts)
    return tuple(
        Message(role="tool", content=text, tool_call_id=call.id) for call, text in zip(calls, texts, strict=True)
    )


def _altered(data: bytes, number: int) -> bytes:
    """Replace letters and digits, and append the last line ``number`` times."""
    lines = data.translate(_ROTATED).splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.insert(0, lines[-1] + b"\n")
    return b"".join(lines + lines[-1:] * number)


_ROTATED = bytes.maketrans(
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
    b"nopqrstuvwxyzabcdefghijklmNOPQRSTUVWXYZABCDEFGHIJKLM1234567890",
)


class ShellTasks:
    """The tasks under a folder. For the other arguments see :class:`ShellTask`."""

    def __init__(self, tasks: dict[str, tuple[Task, Path]], sandbox: Sandbox, limits: Limits, max_turns: int) -> None:
        self._tasks, self._sandbox, self._limits, self._max_turns = tasks, sandbox, limits, max_turns

    def tasks(self) -> list[str]:
        return list(self._tasks)

    def make(self, task: str) -> ShellTask:
        return ShellTask(*self._tasks[task], self._sandbox, self._limits, self._max_turns)


def make_environments(
    *, root: str, backend: str = "bwrap", command_seconds: Positive = 5.0, max_turns: AtLeast1 = 30
) -> ShellTasks:
    """The tasks under a folder, for episode evaluation.

    Args:
        root: the folder that holds the task folders.
        backend: sandbox backend.
        command_seconds: time limit of a command.
        max_turns: as in :class:`ShellTask`.
    """
    limits = Limits(wall_seconds=command_seconds)
    return ShellTasks(load_tasks(root), open_sandbox(backend=backend), limits, max_turns)


def restore(
    turn: Turn, *, root: str, backend: str = "bwrap", command_seconds: float = 5.0, max_turns: int = 30
) -> ShellTask:
    """The task after replaying the commands before the turn. For options see :func:`make_environments`.

    Raises:
        NotRestorable: ``unknown_task``; ``replay_differs``: an output differs from the logged one outside the task's
            volatile parts; ``sandbox_failed``.
        InputError: ``root`` holds no tasks, or the sandbox cannot be used.
    """
    tasks = _tasks(str(root))
    if turn.trajectory.task_id not in tasks:
        raise NotRestorable("unknown_task", turn.trajectory.task_id)
    task, folder = tasks[turn.trajectory.task_id]
    environment = ShellTask(task, folder, _sandbox(backend), Limits(wall_seconds=command_seconds), max_turns)
    try:
        replay(environment, turn, environment.masked)
    except SandboxFault as error:
        environment.close()
        raise NotRestorable("sandbox_failed", str(error)) from error
    except NotRestorable:
        environment.close()
        raise
    return environment


_tasks = functools.cache(load_tasks)
_sandbox = functools.cache(open_sandbox)
