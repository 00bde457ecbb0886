"""The user's terminal, as the processes of a cluster should see it and write to it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Mapping
from typing import Any

_NAMES = ("TERM", "COLORTERM", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "LANG", "LC_ALL")
_PASSED = ("PIVOTRL_", "HF_", "TRANSFORMERS_", "TORCH_", "NCCL_", "GLOO_", "VLLM_", "WANDB_", "MLFLOW_", "TRACKIO_")
_SHOW_CURSOR = b"\x1b[?25h"


def terminal() -> dict[str, Any]:
    """See :meth:`pivotrl.cli.cluster.seat.Seat.start`."""
    size = shutil.get_terminal_size()
    shown = [number for number, stream in ((1, sys.stdout), (2, sys.stderr)) if stream.isatty()]
    return {"size": (size.lines, size.columns), "shown": shown}


def passed_environment() -> dict[str, str | None]:
    """The user's variables that mean the same on every machine."""
    names = [name for name in os.environ if name in (*_NAMES, "PYTHONPATH") or name.startswith(_PASSED)]
    return {name: os.environ[name] for name in names}


def write(number: int, data: bytes) -> None:
    """Write what a process wrote to the same stream here.

    Raises:
        BrokenPipeError: nobody reads it any more.
    """
    stream = sys.stdout if number == 1 else sys.stderr
    stream.flush()
    stream.buffer.write(data)
    stream.buffer.flush()


def show_cursor(shown: Mapping[str, Any]) -> None:
    """A process that was killed in the middle of a bar has left it hidden."""
    if 2 in shown["shown"]:
        with contextlib.suppress(OSError):
            write(2, _SHOW_CURSOR)
