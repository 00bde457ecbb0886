"""Tells the loss of a process from other errors, and who is lost."""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch.distributed as dist

_SIGNS = ("gloo", "nccl", "by peer", "broken pipe", "socket", "timed out", "timeout")
"""Words in what the backends of torch.distributed raise when a peer does not answer."""
_PATIENCE_SECONDS = 2.0


def is_loss(error: BaseException) -> bool:
    """Whether a collective failed because a peer did not answer."""
    if isinstance(error, dist.DistError):
        return True
    places = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    is_sent = any("/torch/distributed/" in Path(place).as_posix() for place in places)
    return is_sent and isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def died(people: Sequence[tuple[str, int]], own: int) -> list[int]:
    """Processes of this machine that have ended. A connection closes a moment before its process is gone."""
    here = socket.gethostname()
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        gone = [n for n, (host, pid) in enumerate(people) if n != own and host == here and not _is_alive(pid)]
        if gone or time.monotonic() > until:
            return gone
        time.sleep(0.05)


def lost_message(gone: Sequence[int], people: Sequence[tuple[str, int]], error: BaseException | None = None) -> str:
    who = " and ".join(f"process {number} of {len(people)} (pid {people[number][1]})" for number in gone)
    why = f" ({str(error).splitlines()[0]})" if error is not None and not gone else ""
    return (
        f"{who or 'another process'} ended unexpectedly{why}: killed, out of memory, or its machine is lost. "
        "Everything finished is kept. Start the same command again; it continues from the last checkpoint (run and "
        "read with --resume)"
    )


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        # One that ended and was not collected yet is a zombie.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except OSError:
        return True
