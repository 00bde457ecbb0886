"""The gold player of Inspect: it answers a sample's target, or repeats the answers of a log."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pivotrl import plugins
from pivotrl.harnesses.inspect.looking import Seen
from pivotrl.protocols import InputError
from pivotrl.protocols.harness import Asked
from pivotrl.records import Trajectory
from pivotrl.records.strict_json import parse_arguments

_LABELLED = {"choice", "answer", "pattern"}
"""Scorers that look for a line ``ANSWER: ...``."""
_SUBMIT = "submit"
"""The tool by which an agent of the package gives its answer."""
_DONE = "Done."


def target_answer(asked: Asked, seen: Seen) -> Mapping[str, Any]:
    """The target, as the task's scorer looks for it.

    Raises:
        KeyError: there is no such sample.
        InputError: it has no target.
    """
    targets = seen.samples[asked.task].targets
    if not any(targets):
        raise InputError(f"the sample {asked.task} has no target; give gold_log=, a log whose answers are right")
    is_labelled = any(scorer.name in _LABELLED for scorer in seen.scorers)
    is_choice = any(scorer.name == "choice" for scorer in seen.scorers)
    text = ", ".join(targets) if is_choice else targets[0]
    text = f"ANSWER: {text}" if is_labelled else text
    if any((tool.get("function") or {}).get("name") == _SUBMIT for tool in asked.tools):
        return {"tool_calls": [{"name": _SUBMIT, "arguments": {"answer": text}}]}
    return {"content": text}


def repeated(log: Path) -> Callable[[Asked], Mapping[str, Any]]:
    """The answers of a log, one by one, and then a word.

    Raises:
        InputError: it cannot be read.
    """
    read = plugins.load("readers", "inspect_ai")
    found = {str(item.metadata["foreign"]["sample_id"]): item for item in read(log) if isinstance(item, Trajectory)}
    if not found:
        raise InputError(f"{log} has no samples with answers")

    @functools.cache
    def answers(task: str) -> list[Mapping[str, Any]]:
        return [
            {
                "content": message.content,
                "tool_calls": [
                    {"name": call.name, "arguments": parse_arguments(call.arguments)} for call in message.tool_calls
                ],
            }
            for message in found[task].messages
            if message.role == "assistant"
        ]

    def answer(asked: Asked) -> Mapping[str, Any]:
        plan = answers(asked.task)
        return plan[asked.num_answers] if asked.num_answers < len(plan) else {"content": _DONE}

    return answer
