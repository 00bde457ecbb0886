"""One command in several processes, as torchrun starts them: process 0 is the command, the others work for it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pivotrl import plugins
from pivotrl.protocols import InputError, Notice

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What every launcher of torch.distributed sets."""
_PLACED = "PIVOTRL_PLACED"
"""Set in the processes that ``--cluster`` starts."""


@dataclass(frozen=True)
class PlacedOn:
    """Where the processes of the command run."""

    cluster: str | None = None
    """Start them on a Ray cluster, which starts them again when one dies: ray(processes=2, gpus=1). None: here."""


@contextmanager
def quiet_where_placed() -> Iterator[None]:
    """Inside, a process of a cluster gives no notices: what the arguments mean has been told where they were given."""
    with warnings.catch_warnings():
        if os.environ.get(_PLACED):
            warnings.simplefilter("ignore", Notice)
        yield


def run_here_or_placed(command: Callable[[], None], words: Sequence[str]) -> None:
    """
    Args:
        command: with its arguments bound.
        words: its command line.

    Raises:
        SystemExit: it ran on a cluster, and its exit code there is not 0.
        InputError: the cluster cannot run it.
        ProcessLost: processes of the cluster died too often.
    """
    given: Mapping[str, Any] = getattr(command, "keywords", {})
    placement = given.get("placement")
    if placement is None or placement.cluster is None or os.environ.get(_PLACED):
        command()
        return
    from pivotrl.cli.cluster.launch import launch  # most commands need none

    if code := launch(placement.cluster, words, given, _PLACED):
        raise SystemExit(code)


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
