"""Places in a Ray cluster: each holds one process of a command, or one server."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from pivotrl.cli.cluster.options import RayCluster
from pivotrl.cli.cluster.seat import Seat
from pivotrl.protocols import InputError
from pivotrl.samplers.ray.cluster import Cluster

_TICK_SECONDS = 1.0


@dataclass(eq=False)
class Place:
    """One place.

    Args:
        name: ``process 0 of 2``.
        bundle: its number among those that are reserved.
        cpus, gpus: of it.
    """

    name: str
    bundle: int
    cpus: float
    gpus: float
    facts: dict[str, Any] = field(default_factory=dict)
    """See :meth:`pivotrl.cli.cluster.seat.Seat.facts`."""
    actor: Any = None
    """Who is there."""

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.name} on {self.facts['host']}" if self.facts else self.name


class Places:
    """All places of a command. They are reserved together, so that two commands never hold half of what they need."""

    def __init__(self, cluster: Cluster, asked: RayCluster) -> None:
        self._cluster, self._asked = cluster, asked
        self._group: Any = None
        each = (asked.cpus, asked.gpus)
        self.processes = [Place(f"process {n} of {asked.processes}", n, *each) for n in range(asked.processes)]
        each = (asked.server_cpus, asked.server_gpus)
        self.servers = [
            Place(f"server {n + 1} of {asked.servers}", asked.place_of_server(n), *each) for n in range(asked.servers)
        ]

    def take(self, places: Sequence[Place]) -> None:
        """Have somebody at each of these places, in place of whoever was there.

        Raises:
            InputError: there is no room within ``start_seconds``.
            Died: a machine is lost meanwhile.
        """
        until = time.monotonic() + self._asked.start_seconds
        if self._group is None:
            self._group = self._cluster.reserve(self._asked.bundles(), self._asked.strategy.upper())
        while not self._cluster.is_reserved(self._group, _TICK_SECONDS):
            self._require_time(until)
        for place in places:
            self.leave(place)
            place.actor = self._cluster.start(Seat, place.cpus, place.gpus, (self._group, place.bundle))
        waiting = {self.begin(place, "facts"): place for place in places}
        while waiting:
            for ref in self.ready(list(waiting), _TICK_SECONDS):
                place = waiting.pop(ref)
                place.facts = self.answer(place, ref)
            if waiting:
                self._require_time(until)

    def leave(self, place: Place) -> None:
        """End who is there, and so what runs there."""
        if place.actor is not None:
            self._cluster.kill(place.actor)
            place.actor = None

    def ask(self, place: Place, question: str, *arguments: Any) -> Any:
        """The answer to a question (:class:`pivotrl.cli.cluster.seat.Seat`).

        Raises:
            Died: nobody is there any more.
            InputError: a user can mend what is wrong.
        """
        return self.answer(place, self.begin(place, question, *arguments))

    def begin(self, place: Place, question: str, *arguments: Any) -> Any:
        """A reference to the answer."""
        return self._cluster.ask(place.actor, question, *arguments)

    def ready(self, refs: Sequence[Any], seconds: float) -> Collection[Any]:
        """The references whose answers are there or lost; waits until one is, or for so long."""
        return self._cluster.wait(refs, seconds)

    def answer(self, place: Place, ref: Any) -> Any:
        """As :meth:`ask`."""
        kind, answer, _ = self._cluster.take(ref)
        if kind == "InputError":
            raise InputError(f"{place.where}: {answer}")
        if kind != "ok":
            raise RuntimeError(f"{place.where}: {answer}")
        return answer

    def close(self) -> None:
        """Leave them all."""
        for place in (*self.processes, *self.servers):
            self.leave(place)

    def _require_time(self, until: float) -> None:
        if time.monotonic() > until:
            raise InputError(
                f"the cluster gave no room within {self._asked.start_seconds:g} s. Needed: {self._asked.named()}. "
                f"{self._cluster.free}. {self._cluster.room[:1].upper()}{self._cluster.room[1:]}"
            )
