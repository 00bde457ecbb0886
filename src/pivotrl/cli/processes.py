"""One command in several processes, as torchrun starts them: process 0 is the command, the others work for it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pivotrl import plugins
from pivotrl.protocols import InputError

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What every launcher of torch.distributed sets."""


@contextmanager
def in_company() -> Iterator[None]:
    """Inside, this is process 0, or the only one. Any other process ends here when process 0 does.

    Raises:
        InputError: a variable is wrong, the processes do not meet, or they run different software.
        ProcessLost: another process is gone.
    """
    if not all(os.environ.get(name) for name in _VARIABLES) or os.environ["WORLD_SIZE"] == "1":
        yield
        return
    size = _number("WORLD_SIZE", 1, 2**31 - 1)
    _number("RANK", 0, size - 1)
    _number("MASTER_PORT", 1, 65535)
    from pivotrl.engine.distributed.launch import LeaderMissing, join  # torch loads slowly

    try:
        crew = join()
    except LeaderMissing:
        raise
    except InputError:
        if os.environ["RANK"] != "0":
            os._exit(2)  # process 0 says it
        raise
    if crew.rank > 0:
        crew.follow(_build)
        os._exit(0)
    with crew.leading():
        yield


def _number(name: str, least: int, most: int) -> int:
    text = os.environ[name]
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise InputError(
            f"the environment variable {name} must be a number from {least} to {most}, not {text!r}; correct it, or "
            "unset it to run in one process"
        )
    return int(text)


def _build(name: str, given: Mapping[str, Any]) -> Any:
    return plugins.find("policies", name)(**given)
