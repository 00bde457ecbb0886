"""Keeps servers at the weights of a learner.

What the learner exports decides how they travel: an adapter is loaded under a new name, and the one before it is
unloaded; whole weights are reloaded from their folder in place of the present ones.
"""

from __future__ import annotations

import atexit
import secrets
import shutil
import tempfile
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pivotrl.policies.vllm.canary import Canary
from pivotrl.policies.vllm.drawing import Published, VersionGenerator
from pivotrl.policies.vllm.replicas import Replicas
from pivotrl.policies.vllm.server import Server, Unreachable
from pivotrl.protocols import Notice
from pivotrl.samplers.openai.asking import Answers

_ADAPTER = "adapter_config.json"


@dataclass(eq=False)
class Replica:
    """A server, and what it was given."""

    server: Server
    canary: Canary
    name: str = ""
    """Of the weights that it was given last."""
    left: list[str] = field(default_factory=list)
    """Adapters on it."""
    is_out: bool = False


class Publisher:
    """
    Args:
        replicas: all serve the same model under the same name.
        export: writes the learner's present weights into a folder, as an adapter or as a whole model.
        generator: draws from published weights.
        base: what the servers should serve, for messages.
        folder: where versions are written, seen by the servers under the same path. None: a temporary folder.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        export: Callable[[Path], None],
        generator: Callable[[Answers, Published], VersionGenerator],
        base: str,
        folder: str | None,
    ) -> None:
        self.replicas, self._export, self._generator, self._base = replicas, export, generator, base
        self._mark, self._number = f"pivotrl-{secrets.token_hex(4)}", 0
        made = Path(tempfile.mkdtemp(prefix="pivotrl-")) if folder is None else Path(folder).resolve() / self._mark
        self._folder = made
        self._present: Published | None = None
        self._is_outdated = False
        self.is_untouched = True
        """Whether the learner still has the weights that it was made with."""
        self._lock = threading.RLock()
        self.metrics: dict[str, float] = {}
        """Of the last synchronisation; empty when they were taken."""
        _HELD.extend((replica.server, replica.left) for replica in replicas)
        weakref.finalize(self, shutil.rmtree, made, ignore_errors=True)

    def outdate(self) -> None:
        """The learner has other weights now."""
        self._is_outdated, self.is_untouched = True, False

    def publish(self, version: int | None, prompts: Sequence[Sequence[int]] = ()) -> VersionGenerator:
        """See :meth:`pivotrl.protocols.PublishesVersions.publish`. A server that has the weights does not get them
        again. One that is out is left out, and gets them when it is back.

        Raises:
            Unreachable: no server is there.
            InputError: a server does not take the weights, or the canary says that it acts with others.
        """
        with self._lock:
            started = time.monotonic()
            for replica in self.replicas:
                for prompt in prompts[:1]:
                    replica.canary.add(prompt)
            if self._present is None or self._is_outdated:
                self._present = self._exported(version)
                self._is_outdated = False
            elif version is not None:
                self._present = Published(self._present.name, self._present.model, version)
            present = self._present
            able = list(self._synchronised(present, started))
            servers = [replica.server for replica in able]
            return self._generator(Replicas(servers, lambda server: self._drew_from(server, present)), present)

    def take_metrics(self) -> dict[str, float]:
        """Of the synchronisation since the last call."""
        taken, self.metrics = self.metrics, {}
        return taken

    def _exported(self, version: int | None) -> Published:
        self._number += 1
        name = f"{self._mark}-{self._number}"
        folder = self._folder / str(self._number)
        self._export(folder)
        for older in self._folder.iterdir():  # nobody loads the versions before any more
            if older != folder:
                shutil.rmtree(older, ignore_errors=True)
        is_adapter = (folder / _ADAPTER).is_file()
        return Published(name, name if is_adapter else self.replicas[0].server.served, version)

    def _synchronised(self, present: Published, started: float) -> Iterator[Replica]:
        """Those that have the weights, given to them now where need be.

        Raises:
            Unreachable: nobody is there.
        """
        gaps, resets, faults = list[float](), list[bool](), list[Unreachable]()
        for replica in self.replicas:
            try:
                if len(self.replicas) > 1 and not replica.server.is_there():
                    raise Unreachable(f"the server at {replica.server.endpoint.base_url} does not answer")
                if not self._has(replica, present):
                    gap, was_reset = self._give(replica, present)
                    gaps.append(gap)
                    resets.append(was_reset)
            except Unreachable as fault:
                faults.append(fault)
                self._leave_out(replica, fault)
                continue
            replica.is_out = False
            yield replica
        if len(faults) == len(self.replicas):
            raise faults[-1]
        if gaps:
            self.metrics = {
                "sync/seconds": time.monotonic() - started,
                "sync/canary_gap": max(gaps),
                "sync/cache_reset": float(all(resets)),
                "sync/servers": float(len(self.replicas) - len(faults)),
            }

    def _leave_out(self, replica: Replica, fault: Unreachable) -> None:
        if not replica.is_out and len(self.replicas) > 1:
            warnings.warn(f"{fault}. It is left out until it is back", Notice, stacklevel=4)
        replica.is_out = True

    def _has(self, replica: Replica, published: Published) -> bool:
        """Whether the server still has the weights; one that was started again has lost them."""
        if replica.name != published.name:
            return False
        if published.model != replica.server.served:
            return replica.server.has(published.model)
        return replica.server.named_weights() in (None, published.name)

    def _drew_from(self, server: Server, published: Published) -> bool:
        """Whether what a server drew is of these weights. No other weights ever have the name of an adapter."""
        if published.model != server.served:
            return True
        is_there = len(self.replicas) == 1 or server.is_there()
        return is_there and server.named_weights() in (None, published.name)

    def _give(self, replica: Replica, published: Published) -> tuple[float, bool]:
        """(gap of the canary, whether the prefix cache was emptied)"""
        server, name, folder = replica.server, published.name, str(self._folder / str(self._number))
        replica.name = ""
        if published.model == name:
            server.load_adapter(name, folder)
            replica.left.append(name)
        else:
            server.load_weights(folder)
            server.name_weights(name)
        was_reset = server.reset_cache()
        words = "the first weights" if published.version is None else f"version {published.version}"
        ask = self._generator(server.endpoint, published).canary_samples
        gap = replica.canary.check(ask, f"{words} at {server.endpoint.base_url}", self._base)
        for other in [known for known in replica.left if known != name]:  # nobody draws from it any more
            server.unload_adapter(other)
            replica.left.remove(other)
        replica.name = name
        return gap, was_reset


_HELD: list[tuple[Server, list[str]]] = []
"""The adapters of this process on each server. No finalizer unloads them: it may run in the thread that would send the
request."""


@atexit.register
def _unload_all() -> None:
    for server, names in _HELD:
        for name in names:
            server.unload_adapter(name)
