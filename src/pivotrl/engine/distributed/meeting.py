"""Who has come to the meeting of the processes, told while some are missing."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from torch.distributed.rendezvous import TCPStore  # type: ignore[attr-defined]

_PATIENCE_SECONDS, _REMINDER_SECONDS = 10.0, 60.0
_REACH_SECONDS = 2
_NAMED = 8


def sign_in(store: TCPStore, rank: int) -> None:
    store.set(_key(rank), "here")


@contextmanager
def waiting_for_others(rank: int, size: int) -> Iterator[None]:
    """The lowest process that has come tells which ones have not, after ten seconds and then each minute."""
    has_met = threading.Event()

    def watch() -> None:
        patience = _PATIENCE_SECONDS
        while not has_met.wait(patience):
            patience = _REMINDER_SECONDS
            missing = missing_processes(size)
            if missing and speaks(rank, missing) and not has_met.is_set():
                print(f"pivotrl: waiting for {named(missing)} of {size} at {address()}", file=sys.stderr, flush=True)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        has_met.set()
        thread.join()  # within seconds: a process must not end while it asks the store


def missing_processes(size: int) -> list[int]:
    """Those that have not signed in; process 0 if nobody serves the store."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        socket.create_connection((host, port), _REACH_SECONDS).close()  # a store that is not there makes torch noisy
        # A client of its own: one that waits lets no other thread ask.
        store = TCPStore(host, port, size, False, timedelta(seconds=_REACH_SECONDS), wait_for_workers=False)
        return [other for other in range(size) if not store.check([_key(other)])]
    except (OSError, RuntimeError, ValueError):
        return [0]


def speaks(rank: int, missing: list[int]) -> bool:
    """Whether this process is the lowest that has come."""
    return rank not in missing and all(other in missing for other in range(rank))


def named(missing: list[int]) -> str:
    some = ", ".join(map(str, missing[:_NAMED])) + (", ..." if len(missing) > _NAMED else "")
    return f"process {some}" if len(missing) == 1 else f"{len(missing)} processes ({some})"


def address() -> str:
    return f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"


def _key(rank: int) -> str:
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return f"pivotrl/{attempt}/here/{rank}"
