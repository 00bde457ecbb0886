"""A shell task as Terminus 2 sees it: no tools, an answer in JSON whose keystrokes go to a terminal, and its screen.

The terminal is only as real as it must be: each command line runs in a shell of its own that begins in the folder where
the last one ended. Variables, jobs and programs that wait for keys do not survive.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator
from typing import Any

from pivotrl.environments.shell.task import ShellTask
from pivotrl.protocols import Observation
from pivotrl.records import Action, Message, ToolCall
from pivotrl.records.strict_json import parse_arguments

_MOST = 10_000
"""Characters of a screen."""
_MARK = "__pivotrl_folder__"
PROMPT = """You work in a Linux terminal. Answer each time with one JSON object and nothing else:

{{"analysis": "what the screen shows", "plan": "what you do next",
 "commands": [{{"keystrokes": "ls -la\\n", "duration": 0.1}}], "task_complete": false}}

Keystrokes are typed as they are; end each command with \\n. Set task_complete to true when the task is done, and once
more when you are asked whether you are sure.

Task:
{task}

Screen:
{screen}"""
_SURE = "Is the task done? Set task_complete to true once more and it is judged; nothing can be changed then."


class TerminusTask:
    """A task played in JSON.

    Args:
        task: the task as commands; its turns are counted there.
    """

    context_window: int | None = None

    def __init__(self, task: ShellTask) -> None:
        self.task_id, self.tags, self._task = task.task_id, task.tags, task
        self._home = getattr(task, "workdir", "/work")
        self._folder, self._is_asked, self._num_turns = self._home, False, 0

    def reset(self) -> tuple[Message, ...]:
        (first,) = self._task.reset()
        self._folder, self._is_asked, self._num_turns = self._home, False, 0
        return (Message(role="user", content=PROMPT.format(task=first.content, screen=self._prompt())),)

    def step(self, action: Action) -> Observation:
        self._num_turns += 1
        try:
            commands, is_done = _read(action)
        except ValueError as error:
            self._is_asked = False
            text = f"Previous response had parsing errors: {error}"
            return self._unless_last(Observation((Message(role="user", content=text),), fault="not_executed"))
        screen, fault, values = "", "", []
        for keys in commands:
            if not keys.strip():
                continue
            ran = self._task.step(_bash(self._line(keys)))
            if ran.done:
                return dataclasses.replace(ran, messages=())
            fault = fault or ran.fault
            text, value = self._shown(keys, ran)
            screen += text
            values.append(value)
        if is_done and self._is_asked:
            end = self._task.step(Action(content="Done."))
            return dataclasses.replace(end, fault="")
        self._is_asked = is_done
        told = f"{_cut(screen)}{self._prompt()}" + (f"\n\n{_SURE}" if is_done else "")
        message = Message(role="user", content=told)
        return self._unless_last(Observation((message,), returned=[values, is_done], fault=fault))

    def _line(self, keys: str) -> str:
        ending = f"printf '\\n%s%s' {_MARK} \"$PWD\""
        return f"exec 2>&1; trap {shlex.quote(ending)} EXIT; cd {shlex.quote(self._folder)} && {keys.rstrip()}"

    def _shown(self, keys: str, ran: Observation) -> tuple[str, Any]:
        """(what the screen shows of a command, value to compare)"""
        (value,) = ran.returned or [{"output": ran.messages[0].content or "", "exit_code": None}]
        output, _, folder = value["output"].partition(f"\n{_MARK}")
        before, self._folder = self._prompt(), folder.strip() or self._folder
        if ran.fault:
            output += f"\n[{ran.fault}]"
        shown = f"{before}{keys.rstrip()}\n{output}"
        return (shown if shown.endswith("\n") else f"{shown}\n"), {"output": output, "exit_code": value["exit_code"]}

    def _prompt(self) -> str:
        return f"agent@sandbox:{self._folder}$ "

    def _unless_last(self, observation: Observation) -> Observation:
        if self._num_turns < self._task.max_turns:
            return observation
        return dataclasses.replace(observation, reward=self._task.reward(), done=True, reason="too_many_turns")

    def masked(self, text: str) -> str:
        return self._task.masked(text)

    def state(self) -> Any:
        return {"files": self._task.state(), "folder": self._folder, "asked": self._is_asked}

    def controls(self) -> Iterator[tuple[TerminusTask, bool]]:
        for control, alike in self._task.controls():
            made = TerminusTask(control)
            made._folder = made._home
            yield made, alike

    def close(self) -> None:
        self._task.close()


def _read(action: Action) -> tuple[list[str], bool]:
    """(keystrokes, whether the task is called complete)

    Raises:
        ValueError: the answer is not such an object.
    """
    if action.tool_calls:
        raise ValueError("there are no tools; answer with JSON")
    answer = parse_arguments((action.content or "").strip())
    commands, is_done = answer.get("commands", []), answer.get("task_complete", False)
    if not isinstance(commands, list) or not isinstance(is_done, bool):
        raise ValueError("commands is a list, and task_complete true or false")
    keys = [command.get("keystrokes") if isinstance(command, dict) else None for command in commands]
    if any(not isinstance(one, str) or "\0" in one for one in keys):
        raise ValueError("each command has keystrokes, a text")
    return [one for one in keys if isinstance(one, str)], is_done


def _bash(command: str) -> Action:
    return Action(tool_calls=(ToolCall(name="bash", arguments=json.dumps({"command": command}), id="keys"),))


def _cut(screen: str) -> str:
    if len(screen) <= _MOST:
        return screen
    half = _MOST // 2
    return f"{screen[:half]}\n[{len(screen) - _MOST} characters left out]\n{screen[-half:]}"
