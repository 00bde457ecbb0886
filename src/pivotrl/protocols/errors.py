"""Words of other libraries' errors in our own."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line of an error's message without its full stop; the name of its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
