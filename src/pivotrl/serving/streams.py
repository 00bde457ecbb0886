"""Answers to clients that wait, and clients that hang up: server-sent events, and work that ends with its client."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from pivotrl.serving.refusals import Refused

_PING_SECONDS = 15.0
"""A stream that says nothing for so long sends a comment, so that nobody takes the connection for dead."""

T = TypeVar("T")


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of some work, which is cancelled when the client hangs up.

    Raises:
        ClientDisconnect: it did.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        await _cancelled(task)
        await _cancelled(gone)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _cancelled(task: asyncio.Future[Any] | None) -> None:
    if task is not None and not task.done():
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Refused):
            await task


class EventStream(StreamingResponse):
    """Parts of an answer as server-sent events.

    Args:
        first: a part that was waited for already.
        parts: the others.
        release: called once nothing is sent any more, whatever the reason.
    """

    def __init__(
        self, first: dict[str, Any] | None, parts: AsyncGenerator[dict[str, Any], None], release: Callable[[], None]
    ) -> None:
        self._first, self._parts, self._release = first, parts, release
        self._waiting: asyncio.Task[Any] | None = None
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(self._events(), media_type="text/event-stream", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with contextlib.suppress(ClientDisconnect):
                await super().__call__(scope, receive, send)
        finally:
            self._release()
            await _cancelled(self._waiting)
            await self._parts.aclose()

    async def _events(self) -> AsyncIterator[bytes]:
        try:
            part = self._first
            while part is not None:
                yield _event(part)
                self._waiting = asyncio.ensure_future(anext(self._parts, None))
                while not (await asyncio.wait([self._waiting], timeout=_PING_SECONDS))[0]:
                    yield b": still at work\n\n"
                part = self._waiting.result()
            yield b"data: [DONE]\n\n"
        except Refused as refusal:  # the status is sent already
            yield _event(refusal.body)


def _event(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value, ensure_ascii=False, allow_nan=False)}\n\n".encode()
