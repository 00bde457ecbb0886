"""Keeps a server at the weights of a learner.

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
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

from pivotrl.policies.vllm.canary import Canary
from pivotrl.policies.vllm.drawing import Published, VersionGenerator
from pivotrl.policies.vllm.server import Server

_ADAPTER = "adapter_config.json"


class Publisher:
    """
    Args:
        export: writes the learner's present weights into a folder, as an adapter or as a whole model.
        generator: draws from published weights.
        base: what the server should serve, for messages.
        folder: where versions are written, seen by the server under the same path. None: a temporary folder.
    """

    def __init__(
        self,
        server: Server,
        export: Callable[[Path], None],
        generator: Callable[[Published], VersionGenerator],
        canary: Canary,
        base: str,
        folder: str | None,
    ) -> None:
        self.server, self.canary, self._export, self._generator, self._base = server, canary, export, generator, base
        self._mark, self._number = f"pivotrl-{secrets.token_hex(4)}", 0
        made = Path(tempfile.mkdtemp(prefix="pivotrl-")) if folder is None else Path(folder).resolve() / self._mark
        self._folder = made
        self._present: Published | None = None
        self._is_outdated = False
        self.is_untouched = True
        """Whether the learner still has the weights that it was made with."""
        self._lock = threading.RLock()
        self._left: list[str] = []
        """Adapters on the server."""
        self.metrics: dict[str, float] = {}
        """Of the last synchronisation; empty when they were taken."""
        _HELD.append((server, self._left))
        weakref.finalize(self, shutil.rmtree, made, ignore_errors=True)

    def outdate(self) -> None:
        """The learner has other weights now."""
        self._is_outdated, self.is_untouched = True, False

    def publish(self, version: int | None, prompts: Sequence[Sequence[int]] = ()) -> VersionGenerator:
        """See :meth:`pivotrl.protocols.PublishesVersions.publish`. Weights that the server has are not sent again.

        Raises:
            InputError: the server does not take the weights, or the canary says that it acts with others.
        """
        with self._lock:
            for prompt in prompts[:1]:
                self.canary.add(prompt)
            if self._present is None or self._is_outdated or not self.is_held(self._present):
                self._present = self._synchronise(version)
                self._is_outdated = False
            elif version is not None:
                self._present = Published(self._present.name, self._present.model, version)
            return self._generator(self._present)

    def take_metrics(self) -> dict[str, float]:
        """Of the synchronisation since the last call."""
        taken, self.metrics = self.metrics, {}
        return taken

    def is_held(self, published: Published) -> bool:
        """Whether the server still has the weights; one that was started again has lost them."""
        if published.model != self.server.served:
            return self.server.has(published.model)
        return self.server.named_weights() in (None, published.name)

    def _synchronise(self, version: int | None) -> Published:
        started = time.monotonic()
        self._number += 1
        name = f"{self._mark}-{self._number}"
        folder = self._folder / str(self._number)
        self._export(folder)
        is_adapter = (folder / _ADAPTER).is_file()
        if is_adapter:
            self.server.load_adapter(name, str(folder))
            self._left.append(name)
        else:
            self.server.load_weights(str(folder))
            self.server.name_weights(name)
        was_reset = self.server.reset_cache()
        published = Published(name, name if is_adapter else self.server.served, version)
        words = "the first weights" if version is None else f"version {version}"
        gap = self.canary.check(
            self._generator(published).canary_samples, f"{words} at {self.server.endpoint.base_url}", self._base
        )
        self._forget_others(name, folder)
        self.metrics = {
            "sync/seconds": time.monotonic() - started,
            "sync/canary_gap": gap,
            "sync/cache_reset": float(was_reset),
        }
        return published

    def _forget_others(self, name: str, folder: Path) -> None:
        """Nobody draws from the versions before any more."""
        for other in [known for known in self._left if known != name]:
            self.server.unload_adapter(other)
            self._left.remove(other)
        for older in self._folder.iterdir():
            if older != folder:
                shutil.rmtree(older, ignore_errors=True)


_HELD: list[tuple[Server, list[str]]] = []
"""The adapters of this process on each server. No finalizer unloads them: it may run in the thread that would send the
request."""


@atexit.register
def _unload_all() -> None:
    for server, names in _HELD:
        for name in names:
            server.unload_adapter(name)
