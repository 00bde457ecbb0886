"""One shell task: commands run in the sandbox, and the files at the end are judged from outside."""

from __future__ import annotations

import dataclasses
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pivotrl.protocols import Observation
from pivotrl.reading.formats.shell_tasks import Task
from pivotrl.records import Action, Message
from pivotrl.records.strict_json import parse_arguments
from pivotrl.sandbox import Limits, Sandbox, SandboxFault, Session, work_dir
from pivotrl.sandbox.work_dir import BASH, SHELL, answers
from pivotrl.text.styles import bash


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
            return self._unless_last(Observation(answers(action.tool_calls, told), fault="not_executed"))
        try:
            if not commands:
                return Observation((), self._reward(), done=True, reason="finished", fault="not_executed")
            results = [self._run(self._session, command) for command in commands]
            messages = answers(action.tool_calls, [told for told, _, _ in results])
            fault = next((fault for _, _, fault in results if fault), "")
            return self._unless_last(Observation(messages, returned=[value for _, value, _ in results], fault=fault))
        except SandboxFault as error:
            return Observation((), done=True, reason=f"sandbox_failed: {error}", fault="sandbox_failed")

    def _run(self, session: Session, command: str) -> tuple[str, Any, str]:
        """(text for the agent, value to compare, fault)"""
        ran = work_dir.run(session, SHELL, command, self._limits)
        value = {"exit_code": ran.exit_code, "output": self.masked(ran.output)}
        if ran.output.encode() != ran.data:  # not UTF-8: the text does not determine the bytes
            value["bytes"] = ran.data.hex()
        separator = "" if ran.output.endswith("\n") or not ran.output else "\n"
        return f"{ran.output}{separator}[{ran.told or f'exit code {ran.exit_code}'}]", value, ran.fault

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
        """See :func:`pivotrl.sandbox.work_dir.state`."""
        assert self._session is not None
        return work_dir.state(self._session, self._limits)

    def controls(self) -> Iterator[tuple[ShellTask, bool]]:
        """The task with an empty work directory, where error messages may differ, and with different and longer
        content in every file."""
        for is_altered in (False, True):
            with tempfile.TemporaryDirectory() as name:
                if is_altered:
                    self._copy_files(Path(name, "files"))
                    work_dir.alter(Path(name, "files"))
                control = self._like(Path(name))
                control.reset()
                yield control, is_altered

    @property
    def max_turns(self) -> int:
        return self._max_turns

    def reward(self) -> float | None:
        """What the files are worth now, as the check sees them."""
        return self._reward()

    def _like(self, folder: Path) -> ShellTask:
        """The same task with other files."""
        return ShellTask(self._task, folder, self._sandbox, self._limits, self._max_turns)

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
                finished = session.run([*SHELL, check.command])
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
        """Copy the current work directory."""
        assert self._session is not None
        files = self._files if self._files.is_dir() else None
        work_dir.copy(self._session, files, folder, self._limits.disk_bytes)


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
