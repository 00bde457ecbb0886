"""``--cluster``: the command runs in processes that Ray places, and starts again when one of them dies."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pivotrl.cli.cluster.command import Command
from pivotrl.cli.cluster.options import RayCluster, read_cluster
from pivotrl.cli.cluster.places import Places
from pivotrl.cli.cluster.relaying import INTERRUPTED, Ending, follow
from pivotrl.cli.cluster.servers import require_servable
from pivotrl.cli.cluster.serving import Moved, Servers
from pivotrl.cli.cluster.terminal import passed_environment, show_cursor, terminal
from pivotrl.protocols import InputError, Notice, ProcessLost
from pivotrl.samplers.ray.cluster import Cluster, Died, require_ray

_UNEXPECTED, _LOST = 1, 8
"""Exit codes after which the same command may go further: an error that no user can mend, or a process that is gone."""


def launch(spec: str, words: Sequence[str], given: Mapping[str, Any], mark: str) -> int:
    """Run a command on a cluster; its exit code.

    Args:
        spec: of the cluster.
        words: the command line.
        given: the arguments that it means.
        mark: name of a variable to set in the processes.

    Raises:
        InputError: an option is wrong, ray is not installed, or the cluster or a server does not start.
        ProcessLost: processes died too often.
    """
    asked = read_cluster(spec)
    if "RANK" in os.environ:
        raise InputError(
            "--cluster starts the processes itself; leave out torchrun (the environment variable RANK is set)"
        )
    command = Command.of(words, given)
    if asked.servers:
        require_servable(command.policy, getattr(command.policy, "sampler", None))
    require_ray("--cluster ray")
    cluster = Cluster(asked.address, asked)
    places = Places(cluster, asked)
    try:
        return _Attempts(places, asked, command, mark).run()
    finally:
        places.close()
        cluster.close()


class _Attempts:
    """The command, again and again until it is done or gets no further."""

    def __init__(self, places: Places, asked: RayCluster, command: Command, mark: str) -> None:
        self._places, self._asked, self._command, self._mark = places, asked, command, mark
        self._folder, self._terminal = str(Path.cwd()), terminal()
        self._servers = Servers(places, asked, command.policy, self._folder)
        self._command_now = command

    def run(self) -> int:
        begun = self._command.snapshot()
        seen, failures = [begun], 0
        while True:
            fault, code = self._once()
            if not fault:
                assert code is not None
                return code
            now = self._command.snapshot()
            failures = 1 if now.is_further_than(seen) else failures + 1
            seen.append(now)
            if failures > self._asked.max_restarts:
                raise ProcessLost(
                    f"{fault}. The command has begun {failures} times without getting further. Everything finished is "
                    "kept: mend the cause and give the same command again (run and read with --resume)"
                )
            self._command_now = self._command.again(begun)
            warnings.warn(
                f"{fault}. All processes start again and go on from what is on disk (start {failures} of at most "
                f"{self._asked.max_restarts} in a row without getting further)",
                Notice,
                stacklevel=2,
            )

    def _once(self) -> tuple[str, int | None]:
        """(why it should run again, or "", exit code)"""
        try:
            self._take_places()
            self._start()
            ending = follow(self._places, self._servers.watch)
        except Moved as moved:
            return str(moved), None
        except Died as died:
            return f"a place in the cluster is lost: {died}", None
        finally:
            show_cursor(self._terminal)
        return _judged(ending), ending.code

    def _take_places(self) -> None:
        """Processes get new places; servers stay as long as they live."""
        places = self._places
        if places.servers and places.servers[0].actor is None:
            places.take([*places.processes, *places.servers])
            self._servers.start()
        else:
            places.take(places.processes)

    def _start(self) -> None:
        command = self._command_now.with_servers(self._servers.urls) if self._asked.servers else self._command_now
        first, processes = self._places.processes[0], self._places.processes
        address = first.facts["address"]
        port = self._places.ask(first, "free_port", address, self._asked.port)
        threads = str(max(1, int(self._asked.cpus)))
        common: dict[str, str | None] = {
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
            **passed_environment(),
            self._mark: "1",
            "WORLD_SIZE": str(len(processes)),
            "MASTER_ADDR": address,
            "MASTER_PORT": str(port),
            "LOCAL_RANK": "0",  # of the GPUs that Ray lets it see
        }
        if not self._asked.gpus:  # ``device='auto'`` would take one that belongs to others
            common["CUDA_VISIBLE_DEVICES"] = ""
        for rank, place in enumerate(processes):
            words = [place.facts["python"], "-m", "pivotrl.cli", *command.words]
            self._places.ask(place, "start", words, {**common, "RANK": str(rank)}, self._folder, self._terminal)


def _judged(ending: Ending) -> str:
    """Why the command should run again; "" if its exit code stands."""
    if ending.code == 0 or ending.is_interrupted:
        return ""
    if ending.lost:
        return "; ".join(ending.lost.values())
    if ending.code in (_UNEXPECTED, _LOST, INTERRUPTED, None):
        told = ", ".join(f"process {rank} with {code}" for rank, code in sorted(ending.codes.items()))
        return f"a process ended unexpectedly (exit codes: {told})"
    return ""
