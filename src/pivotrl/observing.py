"""Whoever wants to know how far the work is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called with (done, total, a few words) before the first piece of work and after each."""


def silent(done: int, total: int, note: str) -> None:
    """No progress shown."""
