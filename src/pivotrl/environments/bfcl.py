"""BFCL multi-turn (Apache-2.0): fulfil a user's requests, one after another, by calling functions.

Each episode has its own instances of the package's classes (:mod:`pivotrl.judging.bfcl_calls`). Success is what the
package's own state and response checkers say.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pivotrl.judging.bfcl_calls import MAX_CHARACTERS, Backend, Truth, parameters_of, truth_of
from pivotrl.judging.replay import replay
from pivotrl.options import AtLeast0, AtLeast1
from pivotrl.protocols import NotRestorable, Observation, Turn
from pivotrl.reading.formats.bfcl import Task, calls_in_text, load_task, load_tasks
from pivotrl.records import Action, Message, Tool, ToolCall

Tools = Literal["json", "signatures"]
"""``json``: tools as JSON schemas, calls as the model's template writes them. ``signatures``: one line per function
in the system message, calls as Python in the text, which a small model can bear."""

MAX_TURNS = 20
"""Turns with calls that the benchmark allows for one request."""

RELEASED = "I have updated some more functions you can choose from. What about now?"
"""The benchmark's own words."""
_SYSTEM = """You do what the user asks by calling functions. To call some, write only
[name(parameter=value), name(parameter=value)]
and you will see their results. When nothing is left to call, or nothing fits, answer in words.

Functions:
"""


class BfclTask:
    """One task as an environment. A turn without a call ends the request, and the user makes the next one.

    Args:
        tools: how the agent learns of the functions, and how it calls them.
        max_turns: the episode fails when a request takes more turns with calls than this.
        stop_when_lost: end the episode at the first request that fails. It does not change the reward.
    """

    context_window: int | None = None

    def __init__(self, task: Task, tools: Tools, max_turns: int, stop_when_lost: bool) -> None:
        self.task_id = task.id
        self.tags = {"category": task.category, "classes": "+".join(sorted(task.classes))}
        self.tools: tuple[Tool, ...] = task.tools if tools == "json" else ()
        self._task, self._tools, self._max_turns, self._stop_when_lost = task, tools, max_turns, stop_when_lost

    def reset(self) -> tuple[Message, ...]:
        self.backend, self.request, self.num_calls, self._num_turns, self._fault = Backend(self._task), 0, 0, 0, ""
        if self._tools == "json":
            return self._asked()
        return (Message(role="system", content=_SYSTEM + signatures(self._task.tools)), *self._asked())

    @property
    def truth(self) -> Truth:
        """The ground truth of the current request."""
        return truth_of(self.task_id)[self.request]

    def _asked(self) -> tuple[Message, ...]:
        released = self._task.released.get(self.request, ())
        if not released:
            return self._task.requests[self.request]
        documents = "\n".join(tool.model_dump_json() for tool in released)
        text = documents if self._tools == "json" else signatures(released)
        return (Message(role="user", content=f"{text}\n{RELEASED}"), *self._task.requests[self.request])

    def calls(self, action: Action) -> tuple[ToolCall, ...]:
        """The calls of an action; none ends the request."""
        if action.tool_calls or self._tools == "json":
            return action.tool_calls
        text = action.content or ""
        return calls_in_text(text, parameters_of(self._task)) or () if len(text) <= MAX_CHARACTERS else ()

    def step(self, action: Action) -> Observation:
        calls = self.calls(action)
        if not calls:
            return self._next_request()
        self._num_turns += 1
        self.num_calls += len(calls)
        outcomes = [self.backend.call(call) for call in calls]
        results = [result for result, _ in outcomes]
        if action.tool_calls:
            answers = zip(calls, results, strict=True)
            messages = tuple(Message(role="tool", content=text, tool_call_id=call.id) for call, text in answers)
        else:
            messages = (Message(role="user", content="\n".join(results)),)
        fault = "" if all(made for _, made in outcomes) else "not_executed"
        if self._num_turns > self._max_turns:
            return Observation(
                messages, 0.0, done=True, reason="force_terminated", returned=sorted(results), fault=fault
            )
        return Observation(messages, returned=sorted(results), fault=fault)

    def _next_request(self) -> Observation:
        self._fault = self._fault or self.truth.fault(self.backend, self.num_calls, self.request) or ""
        if self.request + 1 == len(self._task.requests) or (self._fault and self._stop_when_lost):
            return Observation((), float(not self._fault), done=True, reason=self._fault or "all_fulfilled")
        self.request, self.num_calls, self._num_turns = self.request + 1, 0, 0
        return Observation(self._asked())

    def state(self) -> dict[str, Any]:
        return {"request": self.request, "instances": self.backend.state()}

    def controls(self) -> Iterator[tuple[BfclTask, bool]]:
        """The same request where every instance has the package's default content."""
        control = copy.copy(self)
        control.backend = Backend(dataclasses.replace(self._task, initial={}))
        yield control, False

    def close(self) -> None: ...


def signatures(tools: Sequence[Tool]) -> str:
    """One line per function: ``ls(a: boolean = False)``."""
    return "\n".join(f"{tool.name}({', '.join(_described(tool))})" for tool in tools)


def _described(tool: Tool) -> Iterator[str]:
    required = tool.parameters.get("required", ())
    for name, schema in tool.parameters.get("properties", {}).items():
        default = schema.get("default")
        value = None if default == "None" else default  # so the documents write it
        yield f"{name}: {schema.get('type', 'string')}" + ("" if name in required else f" = {value!r}")


class BfclTasks:
    """The chosen tasks of a category. For options see :class:`BfclTask`."""

    def __init__(self, tasks: dict[str, Task], tools: Tools, max_turns: int, stop_when_lost: bool) -> None:
        self._tasks = tasks
        self._options = (tools, max_turns, stop_when_lost)

    def tasks(self) -> list[str]:
        return list(self._tasks)

    def make(self, task: str) -> BfclTask:
        return BfclTask(self._tasks[task], *self._options)


def make_environments(
    *,
    category: str = "base",
    skip: AtLeast0 = 0,
    first: AtLeast1 | None = None,
    tasks: Sequence[str] | None = None,
    tools: Tools = "json",
    max_turns: AtLeast1 = MAX_TURNS,
    stop_when_lost: bool = True,
) -> BfclTasks:
    """Tasks of a category, for episode evaluation.

    Args:
        skip, first: leave out this many tasks at the start, and take at most this many of the others.
        tasks: take the tasks with these ids instead.
    """
    return BfclTasks(load_tasks(category, skip, first, tasks), tools, max_turns, stop_when_lost)


def restore(turn: Turn, *, max_turns: int = MAX_TURNS, stop_when_lost: bool = True) -> BfclTask:
    """The task after replaying the calls before the turn. Its way to show the functions is that of the trajectory.

    Raises:
        NotRestorable: ``unknown_task``; ``replay_differs``: a result differs from the log.
    """
    trajectory = turn.trajectory
    task = load_task(trajectory.task_id)
    if task is None:
        raise NotRestorable("unknown_task", trajectory.task_id)
    environment = BfclTask(task, "json" if trajectory.tools else "signatures", max_turns, stop_when_lost)
    replay(environment, turn)
    return environment
