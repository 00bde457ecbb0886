"""Text and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from pivotrl.records import Action, Tool
from pivotrl.text.tool_call_syntax import action_of


def parse(text: str, tools: Sequence[Tool]) -> Action:
    return action_of(text, ())


def write(action: Action, tools: Sequence[Tool]) -> str:
    if action.tool_calls:
        raise ValueError("text cannot write a tool call")
    return action.content or ""
