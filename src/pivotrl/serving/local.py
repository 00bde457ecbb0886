"""Our own engine as a backend: one thread that draws for all requests in flight."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from pivotrl.protocols.live import Ask, LiveModel, News
from pivotrl.serving.backends import Begun, Mailbox, Told, told_in
from pivotrl.serving.refusals import Refused

_WINDOW = 0.005
"""Seconds that an idle engine waits after a request for others, so that those sent together begin together."""
_ADMITTED_TOKENS = 2048
"""Prompt tokens that join between two steps: those who wait for their next token wait for that long."""

_logger = logging.getLogger(__name__)


@dataclass
class _Request:
    ask: Ask
    number: int
    """Of the prompt within its request."""
    queue: Mailbox
    loop: asyncio.AbstractEventLoop
    num_growing: int


class LocalBackend:
    """Requests are admitted in order, as soon as there is room for them.

    Args:
        model: used by the thread of this backend alone.
        tells_tops: see :class:`pivotrl.serving.backends.Backend`.
    """

    def __init__(self, model: LiveModel, tells_tops: bool = True) -> None:
        self._model, self.tells_tops = model, tells_tops
        self._numbers = itertools.count()
        self._waiting: dict[str, _Request] = {}
        self._running: dict[str, _Request] = {}
        self._given_up: list[str] = []
        self._changed, self._is_open = threading.Condition(), True
        self.fault: str | None = None
        self._thread = threading.Thread(target=self._run, name="sampling", daemon=True)
        self._thread.start()

    @property
    def num_in_flight(self) -> int:
        """Prompts that wait or are drawn for."""
        return len(self._waiting) + len(self._running)

    @contextlib.asynccontextmanager
    async def open(self, asks: Sequence[Ask]) -> AsyncIterator[AsyncIterator[Sequence[Told]]]:
        queue: Mailbox = asyncio.Queue()
        loop = asyncio.get_running_loop()
        keys = [str(next(self._numbers)) for _ in asks]
        with self._changed:
            if self.fault:
                raise Refused(self.fault, status=503, code="engine_stopped")
            for number, (key, ask) in enumerate(zip(keys, asks, strict=True)):
                self._waiting[key] = _Request(ask, number, queue, loop, ask.num_samples)
            self._changed.notify()
        try:
            yield told_in(queue)
        finally:
            with self._changed:
                self._given_up += keys
                self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._is_open = False
            self._changed.notify()
        self._thread.join()

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._wait():
                self._turn()
        except BaseException as error:
            _logger.exception("the engine stopped")
            with self._changed:  # nobody may join whom nobody would answer
                self.fault = f"the engine stopped ({type(error).__name__}: {error}); start the server again"
                self._fail({**self._waiting, **self._running}, Refused(self.fault, status=503, code="engine_stopped"))

    def _wait(self) -> bool:
        """Until there is something to do; False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._running or not self._is_open)
            is_idle = not self._running
        if is_idle and self._is_open:
            threading.Event().wait(_WINDOW)
        return self._is_open

    def _turn(self) -> None:
        admitted = self._next()
        if admitted:
            self._admit(admitted)
        if self._model.is_busy:
            self._tell(self._model.step())

    def _next(self) -> dict[str, _Request]:
        """Requests to begin now; those that were given up have left."""
        with self._changed:
            for key in self._given_up:
                if self._running.pop(key, None):
                    self._model.cancel(key)
                self._waiting.pop(key, None)
            self._given_up.clear()
            found: dict[str, _Request] = {}
            num_tokens = 0
            for key, request in self._waiting.items():
                num_tokens += len(request.ask.prompt)
                together = [*(other.ask for other in found.values()), request.ask]
                if (found and num_tokens > _ADMITTED_TOKENS) or not self._model.fits(together):
                    break
                found[key] = request
            for key in found:
                self._running[key] = self._waiting.pop(key)
        return found

    def _admit(self, requests: Mapping[str, _Request]) -> None:
        try:
            cached = self._model.admit({key: request.ask for key, request in requests.items()})
        except MemoryError as error:
            for key in requests:
                self._running.pop(key)
            self._fail(requests, Refused(str(error), status=503, code="out_of_memory", retry_after=5))
            return
        for key, request in requests.items():
            _put(request, [(request.number, Begun(cached[key]))])

    def _tell(self, told: Mapping[str, Sequence[News]]) -> None:
        for key, news in told.items():
            request = self._running[key]
            if fault := next((one.fault for one in news if one.fault), None):
                self._model.cancel(key)
                del self._running[key]
                _put(request, Refused(fault, status=500, code="engine_failed"))
                continue
            request.num_growing -= sum(one.finish is not None for one in news)
            if not request.num_growing:
                del self._running[key]
            _put(request, [(request.number, one) for one in news])

    def _fail(self, requests: Mapping[str, _Request], refusal: Refused) -> None:
        for request in requests.values():
            _put(request, refusal)


def _put(request: _Request, told: Sequence[Told] | Refused) -> None:
    with contextlib.suppress(RuntimeError):  # its event loop has closed
        request.loop.call_soon_threadsafe(request.queue.put_nowait, told)
