"""Reports a fault in a user's plugin in one line with its place."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from pivotrl.protocols import InputError


@contextmanager
def told(what: str, *passing: type[Exception]) -> Iterator[None]:
    """Turn an exception from a plugin's code into an InputError that says where it was raised.

    Args:
        passing: exceptions that are part of the plugin's contract and pass unchanged.
    """
    untouched: tuple[type[Exception], ...] = (InputError, OSError, *passing)
    try:
        yield
    except untouched:
        raise
    except (Exception, SystemExit) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{what}: {said} ({place.filename}:{place.lineno}); fix it") from error


def told_of(plugin: Any, what: str, *passing: type[Exception]) -> AbstractContextManager[None]:
    """:func:`told` for a plugin, or class of plugins, from outside this package. Our own keep their traceback."""
    target = plugin if isinstance(plugin, type) else type(plugin)
    return nullcontext() if target.__module__.partition(".")[0] == "pivotrl" else told(what, *passing)
