"""What comes from logs: messages, actions, trajectories."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pivotrl.records.base import Record

Role = Literal["system", "user", "assistant", "tool"]


class ToolCall(Record):
    """One tool call, with its arguments as the raw JSON text that the agent emitted."""

    name: str
    arguments: str = "{}"
    id: str | None = None


class Message(Record):
    """One chat message. Every trace format is mapped to this shape."""

    role: Role
    content: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class Tool(Record):
    """A tool the agent could call; ``parameters`` is a JSON schema."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)


class Action(Record):
    """What an agent did in one turn, without its reasoning: text, tool calls, or both."""

    content: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.tool_calls and not (self.content or "").strip()


class Loss(Record):
    """Something useful for training that the log lacks or the reader could not keep."""

    code: str
    """A code of :mod:`pivotrl.reading.audit`."""
    message: int | None = None
    """Index of the message concerned; None for the whole trajectory."""
    detail: str = ""


class Trajectory(Record):
    """A recorded run of an agent."""

    id: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    task_id: str
    """Trajectories of the same task share it; splits are made by task."""
    reward: float | None = Field(default=None, allow_inf_nan=False)
    """Final reward of the episode, finite; None if the log does not say."""
    excluded: dict[int, str] = Field(default_factory=dict)
    """Index of an assistant message -> why it must not become a candidate (a code of :mod:`pivotrl.reading.audit`)."""
    alternatives: dict[int, tuple[Action, ...]] = Field(default_factory=dict)
    """Index of an assistant message -> other actions that are right there, too."""
    context_window: int | None = None
    """How many of the latest messages (not counting the system message) the agent saw at a turn; None means all."""
    pinned_messages: int = Field(default=0, ge=0)
    """How many leading messages every context keeps in full, whatever the window: a system message and example
    exchanges. Assistant messages among them are never candidates."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    losses: tuple[Loss, ...] = ()
    """What the log lacks or the reader could not keep."""
    tools_inferred: bool = False
    """The tools are not declared in the log but inferred from the agent's calls."""

    @property
    def key(self) -> str:
        return self.id


class Refusal(Record):
    """A part of a log that could not be read."""

    place: str
    """``runs.jsonl:17 (byte 5210)``, or ``runs.json, element 3``."""
    reason: str

    @property
    def key(self) -> str:
        return self.place


class Dropped(Record):
    """A trajectory that was read but left out."""

    trajectory_id: str
    reason: str

    @property
    def key(self) -> str:
        return self.trajectory_id
