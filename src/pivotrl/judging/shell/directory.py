"""The current directory of an agent's shell, from the messages before a turn."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pivotrl.records import Message

_PROMPT = re.compile(
    r"(?:\(Current directory: (/[^\n)]*)\)\s*bash-\$|\[Current working directory: (/[^\n\]]*)\](?:\n\[[^\n]*\])*)\s*\Z"
)
"""How SWE-agent and OpenHands end what a command printed; elsewhere the words may be those of a file."""
_ENVIRONMENT = re.compile(r"<cwd>(/[^\n<]*)</cwd>")
"""How Codex tells it at the start."""


def told_directory(message: Message) -> str | None:
    """The directory that a message of the surroundings tells; the agent's own words do not count."""
    text = message.content or ""
    if message.role == "assistant":
        return None
    if found := _PROMPT.search(text, max(0, len(text) - 2000)):
        return str(found[1] or found[2])
    found = _ENVIRONMENT.search(text) if message.role == "user" else None
    return found[1] if found else None


def last_directory(messages: Sequence[Message]) -> str | None:
    """The directory that the last message to tell one tells."""
    return next(filter(None, map(told_directory, reversed(messages))), None)
