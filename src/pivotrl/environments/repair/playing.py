"""Issues in repositories as environments, in the manner of SWE-agent or of mini-swe-agent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pivotrl.environments.repair import editor
from pivotrl.environments.repair.editor import EDITOR, WORK_DIR
from pivotrl.environments.shell import BASH, ShellTask
from pivotrl.protocols import Observation
from pivotrl.reading.formats.shell_tasks import Task
from pivotrl.records import Action, Message, Tool, ToolCall
from pivotrl.records.strict_json import parse_arguments
from pivotrl.sandbox import Limits, Sandbox, SandboxFault
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
_VOLATILE = (r"(?<= in )\d+\.\d\d+s",)
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


class RepositoryTask(ShellTask):
    """An issue in a repository as an environment. A subclass says how the result is judged, by ``_reward``.

    Args:
        task_id, issue: of the task.
        folder: holds ``files``, the repository.
        manner: which tools there are.
        sandbox: where commands and tests run; its work directory is ``/testbed``.
        limits: limits of each command.
        max_turns: the episode ends after this number of actions, and the repository at that point is judged.
    """

    tools: tuple[Tool, ...]

    def __init__(
        self, task_id: str, issue: str, folder: Path, manner: Manner, sandbox: Sandbox, limits: Limits, max_turns: int
    ) -> None:
        task = Task(id=task_id, prompt=prompt(issue, manner), volatile=_VOLATILE)
        super().__init__(task, folder, sandbox, limits, max_turns)
        self.folder, self._manner = folder, manner
        self.tools = TOOLS[manner]
        self._num_without_call = 0

    def reset(self) -> tuple[Message, ...]:
        """Raises:
        SandboxFault: the sandbox cannot be started.
        """
        self._num_without_call = 0
        return (Message(role="system", content=_SYSTEM[self._manner]), *super().reset())

    def step(self, action: Action) -> Observation:
        assert self._session is not None, "reset it first"
        self._num_turns += 1
        try:
            calls = _calls(action, self.tools)
        except ValueError as error:
            self._num_without_call += 1
            told = _answers(action.tool_calls, [f"[not executed: {error}]"] * max(1, len(action.tool_calls)))
            observation = Observation(told, fault="not_executed")
            if self._num_without_call < _MAX_WITHOUT_CALL:
                return self._unless_last(observation)
            return Observation(told, self._reward(), done=True, reason="repeated_format_errors", fault="not_executed")
        self._num_without_call = 0
        texts, values, fault = list[str](), list[Any](), ""
        try:
            for name, arguments in calls:
                if name == "submit":
                    return Observation((), self._reward(), done=True, reason="submitted")
                text, value, new_fault = self._use(name, arguments)
                if self._manner == "bash" and _is_submission(value):
                    return Observation((), self._reward(), done=True, reason="submitted", returned=[value])
                texts.append(text)
                values.append(value)
                fault = fault or new_fault
        except SandboxFault as error:
            return Observation((), done=True, reason=f"sandbox_failed: {error}", fault="sandbox_failed")
        return self._unless_last(Observation(_answers(action.tool_calls, texts), returned=values, fault=fault))

    def _use(self, name: str, arguments: dict[str, Any]) -> tuple[str, Any, str]:
        assert self._session is not None
        if name == "bash":
            return self._run(self._session, arguments["command"])
        try:
            text = editor.use(self._session, arguments)
        except editor.Refused as error:
            return f"error: {error}", {"exit_code": 1, "output": str(error)}, ""
        # What an edit answers depends on how it was written; what it does is in the files.
        shown = text if arguments["command"] == "view" else ""
        return text, {"exit_code": 0, "output": shown}, ""

    def told(self, output: str, ending: str, exit_code: int | None) -> str:
        if self._manner == "tools":
            return super().told(output, ending, exit_code)
        separator = "" if output.endswith("\n") or not output else "\n"
        code, fault = _code_and_fault(ending, exit_code)
        note = f"<exception>{fault}</exception>\n" if fault else ""
        return f"{note}<returncode>{code}</returncode>\n<output>\n{output}{separator}</output>"

    def command(self, command: str) -> dict[str, Any]:
        """Run a command for mini-swe-agent: what its environments return.

        Raises:
            SandboxFault: the sandbox failed.
        """
        assert self._session is not None, "reset it first"
        self._num_turns += 1
        ran = self.run(self._session, command)
        code, fault = _code_and_fault(ran.ending, ran.exit_code)
        return {"output": ran.output, "returncode": code, "exception_info": fault}

    def reward(self) -> float | None:
        """1 if every hidden test passes on the files as they are now, else 0; None where there is no knowing."""
        return self._reward()


def _code_and_fault(ending: str, exit_code: int | None) -> tuple[int, str]:
    """A return code, -1 for none, and what else an answer tells of how the command ended."""
    return -1 if exit_code is None else exit_code, "" if ending.startswith("[exit code") else ending.strip("[]")


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


def _answers(calls: Sequence[ToolCall], texts: Sequence[str]) -> tuple[Message, ...]:
    """The answers to the agent: a tool message per call, or a user message for a text."""
    if not calls:
        return tuple(Message(role="user", content=text) for text in texts)
    return tuple(
        Message(role="tool", content=text, tool_call_id=call.id) for call, text in zip(calls, texts, strict=True)
    )
