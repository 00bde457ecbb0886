"""A rendered prompt."""

from __future__ import annotations

from typing import NamedTuple

from pivotrl.text.thoughts import Marks


class Prompt(NamedTuple):
    """Everything before an answer."""

    token_ids_T: tuple[int, ...]
    opened: Marks | None = None
    """The marks of the thought that its end has opened, so that the answer begins within it."""
