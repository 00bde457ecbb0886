"""How OpenHands words for the model what its event logs hold in parts; versions 0 and 1 alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pivotrl.reading.fields import as_object, identifier, optional
from pivotrl.records import Message

_ANNOTATIONS = ("security_risk", "summary")
"""Arguments that OpenHands adds to every tool."""


def terminal_text(output: str, metadata: dict[str, Any]) -> str:
    """A command's output with what the shell knows besides: directory, interpreter, exit code (-1: still running)."""
    text = f"{optional(metadata, 'prefix', str) or ''}{output}{optional(metadata, 'suffix', str) or ''}"
    if directory := optional(metadata, "working_dir", str):
        text += f"\n[Current working directory: {directory}]"
    if interpreter := optional(metadata, "py_interpreter_path", str):
        text += f"\n[Python interpreter: {interpreter}]"
    code = identifier(metadata, "exit_code")
    return text if code in (None, "-1") else f"{text}\n[Command finished with exit code {code}]"


def annotation_facts(messages: Sequence[Message]) -> dict[str, Any]:
    """Metadata that names the arguments which are no part of any tool's own, where there are some."""
    texts = [call.arguments for message in messages for call in message.tool_calls]
    found = [name for name in _ANNOTATIONS if any(f'"{name}"' in text for text in texts)]
    return {"annotation_arguments": found} if found else {}


def evaluation_row(value: Any) -> dict[str, Any] | None:
    """A row of an evaluation's ``output.jsonl``, with the events as ``history``; None if it is something else."""
    return value if isinstance(value, dict) and isinstance(value.get("history"), list) else None


def row_facts(row: dict[str, Any]) -> dict[str, Any]:
    """What an evaluation's row tells besides the events, small enough to keep."""
    result = row.get("test_result")
    facts = {"error": row.get("error"), "test_result": _without_long_texts(result)}
    return {key: value for key, value in facts.items() if value}


def _without_long_texts(result: Any) -> dict[str, Any]:
    return {k: v for k, v in as_object(result or {}).items() if isinstance(v, bool | int | float)}
