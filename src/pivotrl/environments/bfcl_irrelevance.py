"""BFCL irrelevance (Apache-2.0): 240 questions with tools that cannot answer them, so the right answer is no call.

This measures behaviour outside a task: whether a policy trained to call still knows when not to. An agent that never
calls anything scores 1, so compare a policy with the model it was trained from.
"""

from __future__ import annotations

from pivotrl.options import AtLeast1
from pivotrl.protocols import Observation
from pivotrl.reading.formats.bfcl import irrelevance_items
from pivotrl.records import Action, Message, Tool


class Question:
    """One question and one answer: reward 1 without a call, 0 with one."""

    context_window: int | None = None

    def __init__(self, name: str, messages: tuple[Message, ...], tools: tuple[Tool, ...]) -> None:
        self.task_id, self.tags, self.tools = name, {"tools": str(len(tools))}, tools
        self._messages = messages

    def reset(self) -> tuple[Message, ...]:
        return self._messages

    def step(self, action: Action) -> Observation:
        """A completion that is no well-formed action arrives here as an empty one: it decides nothing."""
        if action.is_empty:
            return Observation((), done=True, reason="no_answer")
        called = bool(action.tool_calls)
        return Observation((), float(not called), done=True, reason="called" if called else "did_not_call")


class Questions:
    """The questions by id."""

    def __init__(self, first: int | None) -> None:
        self._items = {name: (messages, tools) for name, messages, tools in list(irrelevance_items())[:first]}

    def tasks(self) -> list[str]:
        return list(self._items)

    def make(self, task: str) -> Question:
        return Question(task, *self._items[task])


def make_environments(*, first: AtLeast1 | None = None) -> Questions:
    """The questions, for episode evaluation.

    Args:
        first: at most this many.
    """
    return Questions(first)
