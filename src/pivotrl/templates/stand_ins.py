"""Replace a conversation's data with stand-ins: harmless words everywhere, or only for control strings."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Protocol

from pivotrl.records import Message, Tool, ToolCall
from pivotrl.templates.control_tokens import ControlTokens

_STAND_IN = re.compile(r"zq\d+qz")


class Replacement(Protocol):
    """The replacement of each piece of data."""

    def text(self, text: str) -> str: ...
    def name(self, name: str) -> str: ...
    def schema(self, text: str) -> str: ...


class StandIns:
    """A harmless word for every text and every name: another one each time for texts, one for each name.

    Schemas stay as they are, for templates read them. Blanks stay blank, for templates ask whether a text is empty.
    """

    def __init__(self) -> None:
        self._num_words = 0
        self._names: dict[str, str] = {}

    def text(self, text: str) -> str:
        if not text.strip():
            return text
        self._num_words += 1
        return f"zq{self._num_words}qz"

    def name(self, name: str) -> str:
        if name not in self._names:
            self._names[name] = self.text(name)
        return self._names[name]

    def schema(self, text: str) -> str:
        return text

    @staticmethod
    def missing(part: str | None, text: str) -> bool:
        """Whether a stand-in of this part of the conversation does not occur in a rendered text."""
        return any(word not in text for word in _STAND_IN.findall(part or ""))


class Seals:
    """A word for every control string inside data, so that a template cannot mistake it for its own.

    Args:
        text: the words do not occur in it.
    """

    def __init__(self, controls: ControlTokens, text: str) -> None:
        self._controls = controls
        self._number = next(n for n in range(len(text) + 1) if f"zq{n}x" not in text)
        self._words: dict[str, str] = {}

    @property
    def used(self) -> list[str]:
        """The control strings that were found inside data."""
        return list(self._words)

    def text(self, text: str) -> str:
        for control in self._controls.found_in(text):
            word = self._words.setdefault(control, f"zq{self._number}x{len(self._words)}qz")
            text = text.replace(control, word, 1)
        return text

    name = schema = text

    def opened(self, sealed: str) -> str:
        """The text with the control strings back in their places."""
        for control, word in self._words.items():
            sealed = sealed.replace(word, control)
        return sealed


def replaced(context: Sequence[Message], tools: Sequence[Tool], by: Replacement) -> tuple[list[Message], list[Tool]]:
    """The conversation with its data replaced; roles and ids stay."""
    messages = [
        message.model_copy(
            update={
                "content": by.text(message.content) if message.content else message.content,
                "reasoning": by.text(message.reasoning) if message.reasoning else message.reasoning,
                "tool_calls": tuple(_call(call, by) for call in message.tool_calls),
            }
        )
        for message in context
    ]
    declared = [
        Tool(
            name=by.name(tool.name),
            description=by.text(tool.description),
            parameters=_strings(tool.parameters, by.schema, by.schema),
        )
        for tool in tools
    ]
    return messages, declared


def _call(call: ToolCall, by: Replacement) -> ToolCall:
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return call
    text = json.dumps(_strings(arguments, by.text, by.schema), ensure_ascii=False)
    return call.model_copy(update={"name": by.name(call.name), "arguments": text})


def _strings(value: Any, change: Any, change_key: Any) -> Any:
    """A JSON value with its texts changed, those of its keys in another way."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_strings(item, change, change_key) for item in value]
    if isinstance(value, dict):
        return {change_key(key): _strings(item, change, change_key) for key, item in value.items()}
    return value
