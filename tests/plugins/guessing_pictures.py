"""The environment ``guessing`` with a picture for the pivot browser: the numbers that are still possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import guessing

from pivotrl import Message


def make_environments(*, highest: int = 7, guesses: int = 3) -> guessing.Games:
    return guessing.make_environments(highest=highest, guesses=guesses)


def render_view(messages: Sequence[Message], metadata: dict[str, Any]) -> dict[int, dict[str, Any]]:
    low, high, guess, views = 1, 0, 0, {}
    for index, message in enumerate(messages):
        text = message.content or ""
        if message.role == "assistant":
            guess = int(text) if text.isdecimal() else 0
            continue
        if text.startswith("Guess a number from 1 to "):
            high = int(text.removeprefix("Guess a number from 1 to ").rstrip("."))
        low = guess + 1 if text == "Higher." else low
        high = guess - 1 if text == "Lower." else high
        views[index] = {"kind": "text", "text": f"{low} to {high}"}
    return views
