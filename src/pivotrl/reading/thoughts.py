"""An agent's thoughts, wherever a log keeps them: before the text, in fields of many names, in parts of the content."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pivotrl.records import Loss, Message, Trajectory
from pivotrl.records.strict_json import kind_of

FIELDS = (
    *("reasoning_content", "reasoning", "thinking", "reasoning_text", "thinking_blocks", "reasoning_details"),
    *("thought", "thoughts", "thinking_content", "reasoning_summary", "chain_of_thought", "cot", "tool_plan"),
)
"""Keys of a message that hold its thoughts, the most exact first; they often say the same."""
HOLDERS = ("additional_kwargs", "provider_specific_fields", "model_extra", "extra_content")
KEYS = frozenset((*FIELDS, *HOLDERS))
PART_TYPES = ("thinking", "reasoning", "think", "thought", "reasoning_text", "redacted_thinking", "reasoning_content")
_TEXT_KEYS = ("thinking", "text", "reasoning", "think", "thought", "content", "summary", "description", "value")
_HIDDEN = ("redacted_thinking", "reasoning.encrypted")
_NAMES = "think|thinking|thought|thoughts|reasoning|reason|seed:think|mm:think|antml:thinking"
_LEADING = re.compile(
    rf"\s*(?:<(?P<tag>{_NAMES})>(?P<a>.*?)</(?P=tag)>|\[THINK\](?P<b>.*?)\[/THINK\]|◁think▷(?P<c>.*?)◁/think▷"
    r"|<\|begin_of_thought\|>(?P<d>.*?)<\|end_of_thought\|>|<\|START_THINKING\|>(?P<e>.*?)<\|END_THINKING\|>)\s*",
    re.DOTALL,
)
_UNCLOSED = re.compile(rf"\s*(?:<(?:{_NAMES})>|\[THINK\]|◁think▷|<\|begin_of_thought\|>)")
_FIRST = ("<", "[", "◁")
_CLOSE = "</think>"


def may_begin_with_thought(text: str) -> bool:
    """A quick test that gives most texts a fast path."""
    return text[:1] in _FIRST or _CLOSE in text or (text[:1].isspace() and text.lstrip()[:1] in _FIRST)


def without_thought(text: str) -> tuple[str, str | None]:
    """(the text, the thought before it).

    Some templates write the opening tag for the model, so a text may hold the closing one alone.
    """
    thoughts: list[str] = []
    while found := _LEADING.match(text):
        thoughts.append(next(group for name, group in found.groupdict().items() if name != "tag" and group is not None))
        text = text[found.end() :]
    if not thoughts and text.count(_CLOSE) == 1 and "<think>" not in text:
        before, _, after = text.partition(_CLOSE)
        if after.strip():
            thoughts, text = [before], after.lstrip()
    return text, joined(*(thought.strip() for thought in thoughts))


def with_reasoning(trajectory: Trajectory) -> Trajectory:
    """The trajectory with the thoughts that a reader left before the assistant's texts as its reasoning."""
    changed: dict[int, Message] = {}
    for index, message in enumerate(trajectory.messages):
        if message.role == "assistant" and message.content and may_begin_with_thought(message.content):
            text, thought = without_thought(message.content)
            if thought:
                reasoning = joined(message.reasoning, thought)
                changed[index] = message.model_copy(update={"content": text or None, "reasoning": reasoning})
    if not changed:
        return trajectory
    messages = tuple(changed.get(index, message) for index, message in enumerate(trajectory.messages))
    return trajectory.model_copy(update={"messages": messages})


def is_unclosed(text: str) -> bool:
    """Whether a text begins with a thought that does not end: the model reached its token limit in it."""
    return may_begin_with_thought(text) and _UNCLOSED.match(text) is not None and _LEADING.match(text) is None


def thought_of(row: Mapping[str, Any], said: str | None, losses: list[Loss]) -> str | None:
    """The thought in a message's fields, None without any.

    Args:
        said: the message's text, a part of which some harnesses write a second time as ``thought``.
        losses: receives what is encrypted.
    """
    if KEYS.isdisjoint(row):
        return None
    for holder in (row, *(row[key] for key in HOLDERS if isinstance(row.get(key), dict))):
        for key in FIELDS:
            value = holder.get(key)
            if value and (text := thought_text(key, value, losses)):
                is_said = key == "thought" and ("agent" in row or (said and text.strip() in said))
                return None if is_said else text
    return None


def thought_text(name: str, value: Any, losses: list[Loss]) -> str | None:
    """A thought: a text, an object that holds one, or a list of them.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, str):
        return value.strip("\n") or None if value.strip() else None
    if isinstance(value, list):
        return joined(*(thought_text(name, item, losses) for item in value))
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {kind_of(value)}, not text")
    row = value
    if row.get("type") in _HIDDEN:
        losses.append(Loss(code="reasoning_encrypted"))
        return None
    texts = (row[key] for key in _TEXT_KEYS if row.get(key) and isinstance(row[key], str | list))
    return next((found for text in texts if (found := thought_text(name, text, losses))), None)


def without_thought_parts(content: list[Any], losses: list[Loss]) -> tuple[list[Any], str | None]:
    """(the spoken parts of a content, the thought in the others)."""
    said: list[Any] = []
    thoughts: list[str | None] = []
    for part in content:
        if isinstance(part, dict) and (part.get("type") in PART_TYPES or part.get("thought") is True):
            thoughts.append(thought_text("content", part, losses))
        else:
            said.append(part)
    return said, joined(*thoughts)


def joined(*texts: str | None) -> str | None:
    """The texts that are not empty, a line each; what says the same as one before it once."""
    return "\n".join(dict.fromkeys(text for text in texts if text)) or None
