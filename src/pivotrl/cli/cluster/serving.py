"""The vLLM servers of a command: started, watched, and started again at the same address when they die."""

from __future__ import annotations

import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pivotrl.cli.choices import PolicyChoice
from pivotrl.cli.cluster.options import RayCluster
from pivotrl.cli.cluster.places import Place, Places
from pivotrl.cli.cluster.servers import server_environment, server_words
from pivotrl.cli.cluster.terminal import passed_environment
from pivotrl.protocols import InputError, Notice
from pivotrl.samplers.ray.cluster import Died

_LINES = 12
_TICK_SECONDS = 1.0
_SILENT: dict[str, Any] = {"size": (24, 80), "shown": []}


class Moved(Exception):
    """A server has another address now."""


@dataclass
class _Server:
    place: Place
    port: int | None = None
    is_ready: bool = False
    num_failures: int = 0
    """Since it was ready."""
    asked: dict[Any, str] = field(default_factory=dict)
    """Reference -> question."""

    @property
    def root(self) -> str:
        host = self.place.facts["address"]
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


class Servers:
    """
    Args:
        folder: where they start.
    """

    def __init__(self, places: Places, asked: RayCluster, policy: PolicyChoice, folder: str) -> None:
        self._places, self._asked, self._policy, self._folder = places, asked, policy, folder
        self._servers = [_Server(place) for place in places.servers]
        self._logs = Path(tempfile.gettempdir())

    @property
    def urls(self) -> list[str]:
        return [f"{server.root}/v1" for server in self._servers]

    def start(self) -> None:
        """Start them all and wait until they answer.

        Raises:
            InputError: one ends before it is ready, or is not ready within ``start_seconds``.
            Died: a machine is lost meanwhile.
        """
        for server in self._servers:
            self._begin(server)
        until = time.monotonic() + self._asked.start_seconds
        while waiting := [server for server in self._servers if not server.is_ready]:
            self._look(_TICK_SECONDS)
            if time.monotonic() > until:
                raise self._fault(waiting[0], f"does not answer within {self._asked.start_seconds:g} s")

    def watch(self) -> None:
        """Start again what has died.

        Raises:
            InputError: one died too often without having been ready.
            Moved: one is on another machine now, since its own is lost.
        """
        self._look(0.0)

    def _look(self, seconds: float) -> None:
        questions = {ref: server for server in self._servers for ref in server.asked}
        for ref in self._places.ready(list(questions), seconds):
            server = questions[ref]
            question = server.asked.pop(ref)
            try:
                answer = self._places.answer(server.place, ref)
            except Died as died:
                self._again(server, f"is lost ({died})", is_placed=False)
                continue
            if question == "is_healthy":
                server.is_ready = server.is_ready or answer
                server.num_failures = 0 if answer else server.num_failures
            elif answer[1] is not None:
                self._again(server, f"ended with exit code {answer[1]}", is_placed=True)
                continue
            self._ask(server)

    def _ask(self, server: _Server) -> None:
        """What it is doing; a server that is not ready is asked for its health in between."""
        if not server.asked:
            question, given = (
                ("poll", (_TICK_SECONDS,)) if server.is_ready else ("is_healthy", (f"{server.root}/health",))
            )
            server.asked = {self._places.begin(server.place, question, *given): question}
            if not server.is_ready:
                server.asked[self._places.begin(server.place, "poll", _TICK_SECONDS)] = "poll"

    def _begin(self, server: _Server) -> None:
        address = server.place.facts["address"]
        server.port = int(self._places.ask(server.place, "free_port", address, server.port))
        words = server_words(self._asked, self._policy, address, server.port)
        environment = {**passed_environment(), **server_environment(self._policy)}
        log = str(self._log(server))
        self._places.ask(server.place, "start", words, environment, self._folder, _SILENT, log)
        server.is_ready, server.asked = False, {}
        self._ask(server)

    def _again(self, server: _Server, fault: str, is_placed: bool) -> None:
        server.num_failures += 1
        if server.num_failures > self._asked.max_restarts or not self._has_started:
            raise self._fault(server, fault)
        warnings.warn(
            f"{server.place.where} ({server.root}) {fault}; it starts again. Its log is {self._log(server)}",
            Notice,
            stacklevel=2,
        )
        was = server.root
        if not is_placed:
            self._places.take([server.place])
        self._begin(server)
        if server.root != was:
            raise Moved(f"{server.place.name} has moved from {was} to {server.root}")

    @property
    def _has_started(self) -> bool:
        """Whether all were ready once."""
        return all(server.is_ready or server.num_failures for server in self._servers)

    def _fault(self, server: _Server, fault: str) -> InputError:
        try:
            text = self._places.ask(server.place, "last_words")
        except (Died, InputError):
            text = ""
        words = [line for line in text.splitlines() if line.strip()][-_LINES:]
        said = "".join(f"\n    {line}" for line in words)
        return InputError(
            f"{server.place.where} {fault}. Its log is {self._log(server)} there{', and ends with:' if said else ''}"
            f"{said}"
        )

    def _log(self, server: _Server) -> Path:
        return self._logs / f"pivotrl-server-{server.port}.log"
