"""Actions in a list: short, and still readable."""

from __future__ import annotations

import json
from typing import Any

from pivotrl.records import Action
from pivotrl.report.browser.packing import json_text

_MAX_CHARACTERS = 600
_MAX_ITEMS = 20


def clipped(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 1]}…"


def short_act(action: Action) -> dict[str, Any]:
    """As :func:`pivotrl.report.browser.samples.act`, with long texts and lists cut inside the arguments, so that these
    stay JSON."""
    return {
        "content": None if action.content is None else clipped(action.content),
        "calls": [{"name": clipped(call.name), "arguments": _short(call.arguments)} for call in action.tool_calls],
    }


def _short(arguments: str) -> str:
    if len(arguments) <= _MAX_CHARACTERS:
        return arguments
    try:
        return json_text(_cut(json.loads(arguments)))
    except (ValueError, RecursionError):
        return clipped(arguments)


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return clipped(value)
    if isinstance(value, list):
        kept = [_cut(item) for item in value[:_MAX_ITEMS]]
        return kept if len(kept) == len(value) else [*kept, f"… {len(value) - len(kept):,} more"]
    if isinstance(value, dict):
        return {name: _cut(item) for name, item in value.items()}
    return value
