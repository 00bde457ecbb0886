"""The processes of a training, and how they work together.

Process 0 leads: it runs the pipeline, and is the only one that reads logs, writes records and prints. The others wait
for what it tells them. A piece of work is a method of :attr:`Crew.site` that every process calls at the same time, each
with its share. What a process does apart from the others may fail: all agree on the faults before they go on together.
What fails while they exchange tensors ends the process, and so all of them.

Everything told is plain data of ours. ``torch.distributed`` sends it pickled, between processes that trust each other.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from pivotrl.engine.distributed.peers import died, is_loss, lost_message
from pivotrl.protocols import InputError, ProcessLost

_ENDED = "pivotrl.leader_ended"
_FAULT = "pivotrl.fault"
_LINGER_SECONDS = 3.0
"""So long process 1 can see that the others did not end before the leader."""


class Failed(RuntimeError):
    """Another process failed while the processes worked apart; all of them know."""


class Crew:
    """
    Args:
        rank, size: number of this process, and of all.
        group: for what is told; it never times out, because the leader may verify for hours.
        store: key-value store of the job.
        store_stays: whether it outlives the leader.
        people: (host name, process id) of each process.
    """

    def __init__(
        self, rank: int, size: int, group: Any, store: Any, store_stays: bool, people: Sequence[tuple[str, int]]
    ) -> None:
        self.rank, self.size = rank, size
        self.site: Any = None
        """Where the work of this process is done, see :mod:`pivotrl.engine.distributed.sites`."""
        self.group = group
        self._store, self._store_stays, self._people = store, store_stays, people
        self._is_busy = False
        self._lock = threading.Lock()
        """A thread may score while another one samples."""

    # --- the leader -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def leading(self) -> Iterator[None]:
        """What the leader does from the beginning to the end.

        Raises:
            ProcessLost: a process is gone.
        """
        try:
            yield
        except KeyboardInterrupt:
            self._stop_listening()
            if died(self._people, self.rank):  # torchrun ends all processes when one has ended
                raise self._lost() from None
            raise
        except Exception as error:
            if is_loss(error):
                self._stop_listening()
                raise self._lost(error) from error
            raise
        finally:
            # In the middle of something the others cannot listen; they see this process go.
            with contextlib.suppress(Exception):
                self._store.set(_ENDED, "1")
                if not self._is_busy:
                    self._tell("end", None)

    def _stop_listening(self) -> None:
        """The end is near: torchrun may ask for it more than once, and the others hear nothing any more."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._is_busy = True

    def build(self, name: str, given: Mapping[str, Any]) -> None:
        """Let the others build the policy that this process is about to build; :meth:`built` when it has."""
        self._begin()
        self._tell("build", (name, dict(given)))

    def built(self) -> None:
        self._is_busy = False

    def run(self, work: str, common: Any = None, shares: Sequence[Any] | None = None) -> list[Any]:
        """Let every process do a piece of work, each with its share; what each answers, by process.

        Raises:
            InputError: a process found a fault that a user can mend, or ran out of memory.
            RuntimeError: a process failed otherwise, or is gone; see :meth:`leading`.
        """
        with self._lock:
            self._begin()
            self._tell(work, common)
            mine: list[Any] = [None]
            dist.scatter_object_list(mine, list(shares or [None] * self.size), src=0, group=self.group)
            answer = getattr(self.site, work)(common, mine[0])
            answers: list[Any] = [None] * self.size
            dist.gather_object(answer, answers, dst=0, group=self.group)
            self._is_busy = False
            return answers

    @property
    def is_able(self) -> bool:
        """Whether the others listen; not in the middle of a work that an error has ended."""
        return not self._is_busy

    def _begin(self) -> None:
        if self._is_busy:
            raise ProcessLost("the processes are out of step after an error; start the same command again")
        self._is_busy = True

    def _tell(self, work: str, common: Any) -> None:
        dist.broadcast_object_list([(work, common)], src=0, group=self.group)

    # --- the others -----------------------------------------------------------------------------------------------

    def follow(self, build: Callable[[str, Mapping[str, Any]], Any]) -> None:
        """Do what the leader tells until it ends.

        Args:
            build: (name, options) -> policy; it puts its :attr:`site` here.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the leader decides what Ctrl-C means
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            while True:
                told: list[Any] = [None]
                dist.broadcast_object_list(told, src=0, group=self.group)
                work, common = told[0]
                if work == "end":
                    return
                with contextlib.suppress(Failed):
                    if work == "build":
                        self.site = None  # frees its memory first
                        build(*common)
                    else:
                        self._join_in(work, common)
        except BaseException as error:
            self._leave(error)

    def _join_in(self, work: str, common: Any) -> None:
        mine: list[Any] = [None]
        dist.scatter_object_list(mine, None, src=0, group=self.group)
        answer = getattr(self.site, work)(common, mine[0])
        dist.gather_object(answer, None, dst=0, group=self.group)

    def _leave(self, error: BaseException) -> NoReturn:
        """End at once. If the leader was killed, process 1 says so; otherwise the leader speaks."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun asks for it when it sees that one has ended
        gone = died(self._people, self.rank)
        if 0 in gone:
            if self.rank > 1:
                time.sleep(_LINGER_SECONDS)
            elif gone == [0] and not (self._store_stays and self._has(_ENDED)):  # of others, the leader has spoken
                print(f"pivotrl: {lost_message(gone, self._people)}", file=sys.stderr, flush=True)
        elif not is_loss(error) and not isinstance(error, KeyboardInterrupt):
            with contextlib.suppress(Exception):
                kind, text = _described(error) or ("", "")
                told = f"process {self.rank} of {self.size}" + ("" if kind == "input" else " failed")
                self._store.set(_FAULT, f"{told}: {text}")
        os._exit(1)

    def _has(self, key: str) -> bool:
        try:
            return bool(self._store.check([key]))
        except Exception:  # the store is lost too
            return False

    # --- all ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Inside, each process works alone. At the end all learn who failed, and none goes on if one did.

        Raises:
            InputError: on the leader, if a user can mend the fault; a fault of its own it raises as it is.
            Failed: on the others, or on the leader for any other fault.
        """
        own: Exception | None = None
        try:
            yield
        except Exception as error:
            own = error
        faults = self.all_know(_described(own))
        if not any(faults):
            return
        self._is_busy = False  # all know, so all are ready for the next piece of work
        if own is not None and self.rank == 0:
            raise own
        if self.rank > 0:
            raise Failed from own
        number, (kind, text) = next((number, fault) for number, fault in enumerate(faults) if fault)
        raise (InputError if kind == "input" else Failed)(f"process {number} of {self.size}: {text}")

    def same(self, value: Any) -> Any:
        """All together: the leader's value."""
        told = [value]
        dist.broadcast_object_list(told, src=0, group=self.group)
        return told[0]

    def all_know(self, value: Any) -> list[Any]:
        """All together: the value of each process."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def _lost(self, error: BaseException | None = None) -> ProcessLost:
        """What to say when others are gone."""
        if self._has(_FAULT):
            return ProcessLost(self._store.get(_FAULT).decode())
        return ProcessLost(lost_message(died(self._people, self.rank), self._people, error))


def _described(error: BaseException | None) -> tuple[str, str] | None:
    if error is None:
        return None
    if isinstance(error, InputError):
        return "input", str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "input", (
            "out of memory; let fewer tokens pass at once with hf(pass_tokens=...), decode fewer samples together with "
            "hf(batch_rows=...), or use more processes"
        )
    return "error", "".join(traceback.format_exception(error))
