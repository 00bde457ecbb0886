"""Ray, as far as it is used here: a cluster, its workers, and how they die. No other module imports it."""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pivotrl.plugins.extras import install_hint
from pivotrl.protocols import InputError

_REACH_SECONDS = 5.0
_STORE_BYTES = 256 << 20
"""Of a local cluster, for texts on their way to or from a worker; Ray would take a third of the memory."""
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""The last one silences a warning; workers without a GPU hide it themselves."""
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_worker_niceness": "0"}
"""Despite its name the first makes Ray listen on the loopback address alone, on any system. Workers would give way to
every other program, and nearly stop beside a busy one."""


class Died(Exception):
    """A worker is gone."""


class Demand(Protocol):
    """What is wanted of a cluster."""

    def missing(self, total: Mapping[str, float]) -> str:
        """What a cluster with these resources lacks for it; "" if nothing."""
        ...


@dataclass(frozen=True)
class Needs:
    """Workers, and what each takes of the cluster."""

    workers: int
    cpus: float
    gpus: float

    def missing(self, total: Mapping[str, float]) -> str:
        """What the cluster lacks for them; "" if nothing."""
        for name, each in (("CPU", self.cpus), ("GPU", self.gpus)):
            wanted, has = self.workers * each, total.get(name, 0.0)
            if wanted > has:
                return f"{self.workers} workers with {each:g} {name}s each need {wanted:g}, and there are {has:g}"
        return ""


def require_ray(needed_by: str) -> None:
    """
    Raises:
        InputError: ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError(f"{needed_by} needs ray: {install_hint('ray')}")


class Cluster:
    """A running cluster at an address, or one of this process on this machine.

    Raises:
        InputError: it cannot be reached or started, or this machine is too small.
    """

    def __init__(self, address: str | None, needs: Demand) -> None:
        self.needs, self._is_local = needs, address is None
        self._folder = ""
        self._environment = _QUIET | (_LOOPBACK | {"RAY_AUTH_TOKEN": secrets.token_hex(32)} if self._is_local else {})
        if address is not None:
            _require_reachable(address)
        self._environment = {name: text for name, text in self._environment.items() if name not in os.environ}
        os.environ.update(self._environment)  # read when ray is imported, and by the processes that it starts
        import ray

        self._ray: Any = ray
        self._is_ours = not ray.is_initialized()
        atexit.register(self.close)
        try:
            if self._is_ours:
                self._begin(address)
            if self._is_local and (missing := needs.missing(ray.cluster_resources())):
                raise InputError(f"{missing} on this machine; ask for fewer, or give fewer cpus or gpus to each")
        except BaseException:
            self.close()
            raise

    def _begin(self, address: str | None) -> None:
        options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
        if address is None:
            # Paths of sockets have at most 107 characters, so a long TMPDIR will not do.
            self._folder = tempfile.mkdtemp(prefix="pivotrl-ray-", dir="/tmp" if Path("/tmp").is_dir() else None)  # noqa: S108
            options |= {"address": "local", "include_dashboard": False, "object_store_memory": _STORE_BYTES}
            options["_temp_dir"] = self._folder
            with contextlib.suppress(AttributeError):  # where ray was imported before the environment said so
                self._ray._private.ray_constants.ENABLE_RAY_CLUSTER = False
        try:
            with _signal_handlers_kept():
                self._ray.init(**options)
        except (Exception, SystemExit) as error:
            place = "on this machine" if address is None else f"at {address}"
            told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise InputError(
                f"Ray does not start {place}: {told}; use the same versions of ray and Python on all machines, and see "
                "what `ray status` says"
            ) from error
        with contextlib.suppress(AttributeError):
            # It would print a paragraph about each worker that dies, which we tell in a line.
            self._ray._private.worker._worker_logs_enabled = False

    @property
    def room(self) -> str:
        """What the cluster has and lacks, for messages."""
        missing = self.needs.missing(self._ray.cluster_resources())
        return missing or "the cluster has room for all, unless others use it or one needs several nodes"

    @property
    def free(self) -> str:
        """What nobody uses now, for messages."""
        has = self._ray.available_resources()
        return f"Free: {has.get('CPU', 0):g} CPUs and {has.get('GPU', 0):g} GPUs"

    def reserve(self, bundles: Sequence[Mapping[str, float]], strategy: str) -> Any:
        """A placement group: places for workers, all or none, each on one node. It may still wait for room."""
        return self._ray.util.placement_group([dict(bundle) for bundle in bundles], strategy=strategy)

    def is_reserved(self, group: Any, seconds: float) -> bool:
        """Whether the places are there; waits for them so long."""
        return bool(group.wait(timeout_seconds=seconds))

    def start(self, kind: type, cpus: float, gpus: float, place: tuple[Any, int] | None = None) -> Any:
        """A new worker of this class. It may still wait for a place.

        Args:
            place: reserved places, and the number of one.
        """
        options: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": 0}
        if place is not None:
            strategy = self._ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy
            options["scheduling_strategy"] = strategy(place[0], placement_group_bundle_index=place[1])
        return self._ray.remote(**options)(kind).remote()

    def ask(self, actor: Any, *question: Any) -> Any:
        """A reference to the answer."""
        return actor.ask.remote(*question)

    def wait(self, refs: Sequence[Any], seconds: float) -> Collection[Any]:
        """The references whose answers are there or lost; waits until one is, or for so long."""
        return set(self._ray.wait(list(refs), num_returns=1, timeout=seconds)[0]) if refs else set()

    def take(self, ref: Any) -> tuple[str, Any, list[str]]:
        """
        Raises:
            Died: the worker cannot answer any more.
        """
        try:
            return self._ray.get(ref)  # type: ignore[no-any-return]
        except self._ray.exceptions.RayError as error:
            raise Died(_why(error)) from error

    def kill(self, actor: Any) -> None:
        with contextlib.suppress(Exception):  # it may be dead already
            self._ray.kill(actor)

    def close(self) -> None:
        """Leave the cluster, and stop it if it is ours. The workers end in both cases."""
        atexit.unregister(self.close)
        if self._is_ours and self._ray.is_initialized():
            self._ray.shutdown()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        for name in self._environment:
            os.environ.pop(name, None)
        self._environment = {}


def _require_reachable(address: str) -> None:
    """Ray itself would try for minutes.

    Raises:
        InputError: nothing listens there.
    """
    host, colon, port = address.rpartition(":")
    if address == "auto":
        return
    if not colon or not port.isdecimal() or "/" in host:
        raise InputError(f"address={address!r} is no address of a Ray cluster; write 'host:port', or 'auto'")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_SECONDS):
            pass
    except (OSError, OverflowError) as error:
        raise InputError(
            f"no Ray cluster can be reached at {address} ({error}); start one with `ray start --head`, or leave out "
            "address for a cluster on this machine"
        ) from error


@contextlib.contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """``ray.init`` takes SIGTERM over."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    known = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in known.items():
            signal.signal(number, handler)


def _why(error: Exception) -> str:
    """The cause of a worker's death in one line, from Ray's page about it."""
    text = " ".join(str(error).split())
    for mark in ("Worker exit detail: ", "The actor is dead because "):
        text = text.partition(mark)[2] or text
    return text.partition(" Some common causes")[0].rstrip(".")[:300] or type(error).__name__
