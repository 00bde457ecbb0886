"""The processes of a command from their start to their end: what they write is passed on, and all end when one dies."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pivotrl.cli.cluster.places import Place, Places
from pivotrl.cli.cluster.terminal import write
from pivotrl.samplers.ray.cluster import Died

POLL_SECONDS = 1.0
_GRACE_SECONDS = 30.0
"""So long others may take to end after one."""
INTERRUPTED = 130


@dataclass
class Ending:
    """How the processes ended.

    Args:
        codes: rank -> exit code, of those that ended by themselves; None: its place is lost.
    """

    codes: dict[int, int | None] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    """Rank -> what became of it, for those that were killed or whose machine is gone."""
    is_interrupted: bool = False
    """The user ended them."""

    @property
    def code(self) -> int | None:
        """That of process 0."""
        return self.codes.get(0)


def follow(places: Places, watch: Callable[[], None]) -> Ending:
    """Pass on what the processes write until all have ended.

    Args:
        watch: is called about once a second; what it raises ends the processes.
    """
    ending, since, is_asked = Ending(), 0.0, False
    asked = {places.begin(place, "poll", POLL_SECONDS): rank for rank, place in enumerate(places.processes)}
    with _told_of_interrupts() as interrupts:
        while asked:
            for ref in places.ready(list(asked), POLL_SECONDS):
                rank = asked.pop(ref)
                if _goes_on(places, places.processes[rank], ref, rank, ending):
                    asked[places.begin(places.processes[rank], "poll", POLL_SECONDS)] = rank
            if ending.codes and not since:
                since = time.monotonic()
            has_failed = 0 in ending.codes or any(code != 0 for code in ending.codes.values())
            if (interrupts or has_failed) and not is_asked and 0 not in ending.codes:
                is_asked, ending.is_interrupted = True, bool(interrupts)
                places.begin(places.processes[0], "signal", int(signal.SIGTERM))  # it decides what that means
            if has_failed and time.monotonic() > since + _GRACE_SECONDS:
                return ending
            watch()
    return ending


def _goes_on(places: Places, place: Place, ref: Any, rank: int, ending: Ending) -> bool:
    try:
        written, code = places.answer(place, ref)
    except Died as died:
        ending.codes[rank], ending.lost[rank] = None, f"{place.where} is lost: {died}"
        return False
    for number, data in written:
        write(number, data)
    if code is None:
        return True
    ending.codes[rank] = code
    if code > 128 and code not in (INTERRUPTED, 128 + signal.SIGTERM):  # it was asked to end, perhaps by us
        ending.lost[rank] = f"{place.where} was killed by {_named(code - 128)}"
    return False


@contextmanager
def _told_of_interrupts() -> Iterator[list[int]]:
    """Inside, Ctrl-C is noted. The second time it is a KeyboardInterrupt."""
    noted: list[int] = []

    def note(number: int, _: Any) -> None:
        noted.append(number)
        if len(noted) > 1:
            raise KeyboardInterrupt

    were = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in were.items():
            signal.signal(number, handler)


def _named(number: int) -> str:
    told = signal.Signals(number).name if number in signal.Signals._value2member_map_ else f"signal {number}"
    return f"{told}, as the system does when memory runs out" if number == signal.SIGKILL else told
