"""Issues in repositories as environments, in the manner of SWE-agent or of mini-swe-agent."""

from __future__ import annotations

import abc
import dataclasses
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pivotrl.protocols import Observation
from pivotrl.records import Action, Message, Tool
from pivotrl.records.strict_json import parse_arguments
from pivotrl.sandbox import work_dir
from pivotrl.sandbox.interface import Limits, Sandbox, SandboxFault, Session
from pivotrl.sandbox.repositories import editor
from pivotrl.sandbox.repositories.editor import EDITOR, WORK_DIR
from pivotrl.sandbox.work_dir import BASH, answers
from pivotrl.text.styles import bash

Manner = Literal["tools", "bash"]
SUBMIT = Tool(
    name="submit",
    description="Hand in the repository as it is. This ends the task.",
    parameters={"type": "object", "properties": {}, "additionalProperties": False},
)
SUBMITTED = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
"""mini-swe-agent ends when a command that succeeds prints this line first."""
TOOLS: dict[Manner, tuple[Tool, ...]] = {"tools": (BASH, EDITOR, SUBMIT), "bash": (BASH,)}
_VOLATILE = re.compile(r"(?<= in )\d+\.\d\d+s")
"""How long unittest and pytest took."""
_MAX_WITHOUT_CALL = 3
"""Answers in a row without a call after which the episode ends, as in both harnesses."""
_SYSTEM = {
    "tools": "You are a programmer. You repair the repository that you are given, by calls of the tools.",
    "bash": "You are a programmer. You repair the repository that you are given, by commands of the shell.",
}
_ENDING = {
    "tools": "When the issue is solved, call submit.",
    "bash": f"Each command runs in a new shell. When the issue is solved, run this alone: echo {SUBMITTED}",
}


def prompt(issue: str, manner: Manner) -> str:
    """The first message of the user."""
    return (
        f"A repository lies in {WORK_DIR}, where every command starts. Solve the issue below by changing its source, "
        "not its tests. Other tests than those that you see will judge the result.\n\n"
        f"<issue>\n{issue}\n</issue>\n\n{_ENDING[manner]}"
    )


class RepositoryTask(abc.ABC):
    """An issue in a repository as an environment. A subclass says how the result is judged.

    Args:
        task_id, issue: of the task.
        folder: holds ``files``, the repository.
        manner: which tools there are.
        sandbox: where commands and tests run; its work directory is ``/testbed``.
        limits: limits of each command.
        max_turns: the episode ends after this number of actions, and the repository at that point is judged.
    """

    context_window: int | None = None
    shell: tuple[str, ...] = work_dir.SHELL

    def __init__(
        self, task_id: str, issue: str, folder: Path, manner: Manner, sandbox: Sandbox, limits: Limits, max_turns: int
    ) -> None:
        self.task_id, self.tags, self.metadata = task_id, dict[str, str](), dict[str, Any]()
        self.folder, self.tools = folder, TOOLS[manner]
        self._issue, self._manner = issue, manner
        self._sandbox, self._limits, self._max_turns = sandbox, limits, max_turns
        self._session: Session | None = None
        self._num_turns = self._num_without_call = 0

    def reset(self) -> tuple[Message, ...]:
        """Raises:
        SandboxFault: the sandbox cannot be started.
        """
        self.close()
        self._session = self._sandbox.open(self.folder / "files", self._limits)
        self._num_turns = self._num_without_call = 0
        system = Message(role="system", content=_SYSTEM[self._manner])
        return system, Message(role="user", content=prompt(self._issue, self._manner))

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def step(self, action: Action) -> Observation:
        assert self._session is not None, "reset it first"
        self._num_turns += 1
        try:
            calls = _calls(action, self.tools)
        except ValueError as error:
            self._num_without_call += 1
            told = answers(action.tool_calls, [f"[not executed: {error}]"] * max(1, len(action.tool_calls)))
            observation = Observation(told, fault="not_executed")
            if self._num_without_call < _MAX_WITHOUT_CALL:
                return self._unless_last(observation)
            return Observation(told, self.reward(), done=True, reason="repeated_format_errors", fault="not_executed")
        self._num_without_call = 0
        texts, values, fault = list[str](), list[Any](), ""
        try:
            for name, arguments in calls:
                if name == "submit":
                    return Observation((), self.reward(), done=True, reason="submitted")
                text, value, new_fault = self._use(name, arguments)
                if self._manner == "bash" and _is_submission(value):
                    return Observation((), self.reward(), done=True, reason="submitted", returned=[value])
                texts.append(text)
                values.append(value)
                fault = fault or new_fault
        except SandboxFault as error:
            return Observation((), done=True, reason=f"sandbox_failed: {error}", fault="sandbox_failed")
        return self._unless_last(Observation(answers(action.tool_calls, texts), returned=values, fault=fault))

    def _use(self, name: str, arguments: dict[str, Any]) -> tuple[str, Any, str]:
        """(text for the agent, value to compare, fault)"""
        assert self._session is not None
        if name == "bash":
            ran = work_dir.run(self._session, self.shell, arguments["command"], self._limits)
            return self._told(ran), {"exit_code": ran.exit_code, "output": self.masked(ran.output)}, ran.fault
        try:
            text = editor.use(self._session, arguments)
        except editor.Refused as error:
            return f"error: {error}", {"exit_code": 1, "output": str(error)}, ""
        # What an edit answers depends on how it was written; what it does is in the files.
        shown = text if arguments["command"] == "view" else ""
        return text, {"exit_code": 0, "output": shown}, ""

    def _told(self, ran: work_dir.Ran) -> str:
        separator = "" if ran.output.endswith("\n") or not ran.output else "\n"
        if self._manner == "tools":
            return f"{ran.output}{separator}[{ran.told or f'exit code {ran.exit_code}'}]"
        note = f"<exception>{ran.told}</exception>\n" if ran.told else ""
        return f"{note}<returncode>{_code(ran)}</returncode>\n<output>\n{ran.output}{separator}</output>"

    def _unless_last(self, observation: Observation) -> Observation:
        if self._num_turns < self._max_turns:
            return observation
        return dataclasses.replace(observation, reward=self.reward(), done=True, reason="too_many_turns")

    def command(self, command: str) -> dict[str, Any]:
        """Run a command for mini-swe-agent: what its environments return.

        Raises:
            SandboxFault: the sandbox failed.
        """
        assert self._session is not None, "reset it first"
        ran = work_dir.run(self._session, self.shell, command, self._limits)
        return {"output": ran.output, "returncode": _code(ran), "exception_info": ran.told}

    def masked(self, text: str) -> str:
        """The text without what differs from run to run."""
        return _VOLATILE.sub("<volatile>", text)

    def state(self) -> Any:
        """See :func:`work_dir.state`."""
        assert self._session is not None
        return work_dir.state(self._session, self._limits, ignores_git=True)

    def controls(self) -> Iterator[tuple[RepositoryTask, bool]]:
        """The task with an empty work directory, where error messages may differ, and with different and longer
        content in every file."""
        for is_altered in (False, True):
            with tempfile.TemporaryDirectory() as name:
                (Path(name) / "files").mkdir()
                if is_altered:
                    self.copy_files(Path(name) / "files")
                    work_dir.alter(Path(name) / "files", ignores_git=True)
                control = self.elsewhere(Path(name))
                control.reset()
                yield control, is_altered

    def read(self, path: str) -> str:
        """The content of a text file of the repository."""
        assert self._session is not None
        return self._session.read(path, self._limits.disk_bytes).decode()

    def copy_files(self, folder: Path) -> None:
        """Copy the repository as it is now."""
        assert self._session is not None
        work_dir.copy(self._session, self.folder / "files", folder, self._limits.disk_bytes)

    @abc.abstractmethod
    def elsewhere(self, folder: Path) -> RepositoryTask:
        """The same task on the files of another folder."""

    @abc.abstractmethod
    def reward(self) -> float | None:
        """1 if every hidden test passes on the files as they are now, else 0; None where there is no knowing."""


def _code(ran: work_dir.Ran) -> int:
    return -1 if ran.exit_code is None else ran.exit_code


def _is_submission(value: dict[str, Any]) -> bool:
    lines = value["output"].lstrip().splitlines()
    return bool(lines) and lines[0].strip() == SUBMITTED and value["exit_code"] == 0


def _calls(action: Action, tools: Sequence[Tool]) -> list[tuple[str, dict[str, Any]]]:
    """(tool, arguments) of each call, or of the single shell block of a text.

    Raises:
        ValueError: there is no call, or one is malformed.
    """
    names = [tool.name for tool in tools]
    found = []
    for call in action.tool_calls or bash.parse(action.content or "", ()).tool_calls:
        arguments = parse_arguments(call.arguments)
        if call.name not in names:
            raise ValueError(f"there is no tool {call.name}; there are {', '.join(names)}")
        if call.name == "bash":
            command = arguments.get("command")
            if len(arguments) != 1 or not isinstance(command, str) or "\0" in command:
                raise ValueError("call bash with a command")
        if call.name == "submit" and arguments:
            raise ValueError("submit takes no arguments")
        found.append((call.name, arguments))
    if not found:
        raise ValueError(f"the answer holds no call; there are the tools {', '.join(names)}")
    return found
