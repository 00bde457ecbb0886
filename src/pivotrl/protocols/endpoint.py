"""An endpoint of an OpenAI-compatible server: requests with a deadline, retries and a bound on how many are under way.

It knows nothing of what is asked: bodies go out as JSON, answers come back as text. Whoever asks reads them.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import functools
import json
import os
import random
import re
import threading
import time
import urllib.parse
import weakref
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import httpx

from pivotrl.options import InputError

_HOST = re.compile(r"[\w.-]+|[0-9a-fA-F:.]+(%[\w.-]+)?")
_MAX_HOST = 253
_MAX_WORDS = 200
"""Characters of what a server says about a fault that an error repeats."""
_FIRST_PAUSE = 0.5
"""Seconds before the second try; doubled each time, times a random factor of 0.5 to 1.5."""
_PATIENCE = 5.0
"""Seconds, at most, to wait for a connection to an address that has not answered yet."""
_KEPT_OPEN = 2.0
"""Seconds that an idle connection is kept: less than servers do, which would close it under the next request."""
_REACHED: set[str] = set()
"""Addresses that have answered this process: one that never did is mistaken, one that did is busy or broken."""
_USERS_MISTAKES = {401: "the key is refused", 403: "access is denied", 404: "there is no such endpoint or model"}

_Body = Mapping[str, Any] | None
"""None asks with GET."""


class NoAnswer(Exception):
    """The server gave no answer. ``reason``: unavailable (busy, broken, out of reach or too slow), refused (the request
    is not one that it takes) or too_large."""

    def __init__(self, reason: Literal["unavailable", "refused", "too_large"], detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, eq=False)
class Endpoint:
    """Where requests are sent, and how patiently. Several threads may use one.

    Args:
        name: what is asked there, for messages: ``judge``.
        base_url: up to ``/v1``.
        key_variable: name of the environment variable that holds the key, which is sent as a bearer token. The key is
            read at each request; it is never stored, logged, or part of an error.
        deadline_seconds: of a request, all tries and pauses together; waiting for its turn does not count.
        max_tries: how often a request is sent when the server is busy, broken or out of reach. Between two tries lies
            what the server asks for (``Retry-After``), else a pause that doubles.
        max_in_flight: requests under way at one time, over all threads.
        max_answer_bytes: a longer answer is none.

    Raises:
        InputError: on creation, the text is no address or holds a password, or the environment variable is not set.
    """

    name: str
    base_url: str
    key_variable: str | None = None
    deadline_seconds: float = 60.0
    max_tries: int = 4
    max_in_flight: int = 64
    max_answer_bytes: int = 1 << 20
    _connections: _Connections = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _require_address(self.name, self.base_url)
        self._headers()
        object.__setattr__(self, "_connections", _Connections(self.max_in_flight))

    def post_all(
        self, path: str, bodies: Sequence[Mapping[str, Any]], optional: Sequence[str] = ()
    ) -> list[str | NoAnswer]:
        """Send every body, ``max_in_flight`` at a time; the answers, or why there is none, in order.

        Args:
            path: what follows the base URL: ``chat/completions``.
            optional: fields that are left out when the server does not take the request with them (400 or 422).

        Raises:
            InputError: the server refuses the key, does not know the path or the model, or was never there. The other
                requests are given up then.
        """
        return wait_for(self._post_all(path, bodies, optional))

    def get(self, path: str) -> str | NoAnswer:
        """What is at a path, such as ``models``. That there is nothing is an answer too (``refused``).

        Raises:
            InputError: the server refuses the key, or was never there.
        """
        return wait_for(self._post_all(path, [None], ()))[0]

    async def _post_all(self, path: str, bodies: Sequence[_Body], optional: Sequence[str]) -> list[str | NoAnswer]:
        tasks = [asyncio.ensure_future(self.answer(path, body, optional)) for body in bodies]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def answer(self, path: str, body: _Body, optional: Sequence[str] = ()) -> str | NoAnswer:
        """The answer to one body, or why there is none; for coroutines that :func:`wait_for` runs.

        Raises:
            InputError: as :meth:`post_all`.
        """
        async with self._connections.one() as client:
            try:
                async with asyncio.timeout(self.deadline_seconds):
                    return await self._try(client, path, body, optional)
            except TimeoutError:
                return NoAnswer("unavailable", f"no answer within {self.deadline_seconds:g} s")
            except NoAnswer as reason:
                return reason

    async def _try(self, client: httpx.AsyncClient, path: str, body: _Body, optional: Sequence[str]) -> str:
        fault, tries, pause, started, connected = "", 0, _FIRST_PAUSE, time.monotonic(), False
        while True:
            tries += 1
            try:
                status, headers, content = await self._send(client, path, body)
            except httpx.HTTPError as error:
                fault, wait = f"{type(error).__name__} {error}".strip(), None
                connected |= not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
            else:
                connected = True
                _REACHED.add(self.base_url)
                if status == 200:
                    return content
                if status in _USERS_MISTAKES and not (status == 404 and body is None):
                    model = f"the model {body.get('model')!r} and " if body else ""
                    raise InputError(
                        f"the {self.name} at {self.base_url} answers {status}, {_USERS_MISTAKES[status]}; check its "
                        f"address, {model}the environment variable with its key"
                    )
                if status < 500 and status not in (408, 409, 425, 429):
                    if body and status in (400, 422) and any(key in body for key in optional):
                        body, tries = {key: value for key, value in body.items() if key not in optional}, tries - 1
                        continue
                    raise NoAnswer("refused", f"status {status}{_said(content)}")
                fault, wait = f"status {status}{_said(content)}", _retry_after(headers.get("retry-after"))
            if wait is None:
                wait, pause = pause * random.uniform(0.5, 1.5), 2 * pause  # noqa: S311
            limit = self.deadline_seconds if connected else self._patience
            if tries < self.max_tries and time.monotonic() - started + wait < limit:
                await asyncio.sleep(wait)
            else:
                break
        if not connected and self.base_url not in _REACHED:
            raise InputError(
                f"the {self.name} at {self.base_url} cannot be reached ({fault}, tried {tries} times); start its "
                "server, or mend base_url"
            )
        raise NoAnswer("unavailable", f"{fault}, tried {tries} times")

    @property
    def _patience(self) -> float:
        """Seconds to wait for a connection; of an address that has not answered yet fewer than the deadline, which
        would not tell why it passed."""
        return self.deadline_seconds if self.base_url in _REACHED else min(_PATIENCE, self.deadline_seconds / 2)

    async def _send(self, client: httpx.AsyncClient, path: str, body: _Body) -> tuple[int, httpx.Headers, str]:
        url, timeout = (
            f"{self.base_url.rstrip('/')}/{path}",
            httpx.Timeout(self.deadline_seconds, connect=self._patience),
        )
        method = "GET" if body is None else "POST"
        async with client.stream(method, url, json=body, headers=self._headers(), timeout=timeout) as response:
            content = bytearray()
            async for part in response.aiter_bytes():
                content += part
                if len(content) > self.max_answer_bytes:
                    raise NoAnswer("too_large", f"more than {self.max_answer_bytes} bytes")
        return response.status_code, response.headers, content.decode("utf-8", "replace")

    def _headers(self) -> dict[str, str]:
        if self.key_variable is None:
            return {}
        key = os.environ.get(self.key_variable)
        if not key:
            raise InputError(
                f"{self.name}: the environment variable {self.key_variable!r} is not set; put the key there"
            )
        return {"Authorization": f"Bearer {key}"}


class _Connections:
    """At most so many connections, opened when they are needed. A forked process opens its own.

    Each belongs to a client of its own: one client looks through all of its connections at every request.
    """

    def __init__(self, number: int) -> None:
        self._number, self._owner = number, 0

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[httpx.AsyncClient]:
        """One that is free, for one request. To be called in the event loop, so by one thread alone."""
        if self._owner != os.getpid():
            self._open()
        client = await self._free.get()
        try:
            client = client or self._new()
            yield client
        finally:
            self._free.put_nowait(client)

    def _open(self) -> None:
        self._owner, self._clients, self._context = os.getpid(), list[httpx.AsyncClient](), httpx.create_ssl_context()
        self._free = asyncio.LifoQueue[httpx.AsyncClient | None]()
        for _ in range(self._number):
            self._free.put_nowait(None)
        weakref.finalize(self, _close, self._clients, asyncio.get_running_loop(), self._owner).atexit = False

    def _new(self) -> httpx.AsyncClient:
        self._clients.append(httpx.AsyncClient(verify=self._context, limits=httpx.Limits(keepalive_expiry=_KEPT_OPEN)))
        return self._clients[-1]


def _close(clients: Sequence[httpx.AsyncClient], loop: asyncio.AbstractEventLoop, owner: int) -> None:
    if owner == os.getpid():
        for client in clients:
            asyncio.run_coroutine_threadsafe(client.aclose(), loop)


_Result = TypeVar("_Result")


def wait_for(asking: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine in the event loop of all endpoints, and wait for what it returns."""
    sending = asyncio.run_coroutine_threadsafe(asking, _loop())
    try:
        return sending.result()
    except BaseException:
        sending.cancel()
        raise


_starting = threading.Lock()


def _loop() -> asyncio.AbstractEventLoop:
    with _starting:
        return _loop_of(os.getpid())


@functools.lru_cache(maxsize=1)
def _loop_of(pid: int) -> asyncio.AbstractEventLoop:
    """An event loop in a thread of its own, for all endpoints. One a process: a fork has no threads."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True, name="endpoints").start()
    return loop


def _require_address(name: str, base_url: str) -> None:
    """Refuse what no request can be sent to.

    Raises:
        InputError: the text is no http or https address, or it holds a password.
    """
    if isinstance(base_url, str) and "@" in base_url.partition("://")[2].partition("/")[0]:
        raise InputError(
            f"{name}: the address holds a user name or a password, which would be written to every manifest; leave it "
            "out and name the environment variable that holds the key by key_variable"
        )
    fault = ""
    try:
        parts = urllib.parse.urlsplit(base_url)
        httpx.URL(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            fault = "it has to begin with http:// or https://, a host after it, and no ? or #"
        elif parts.port == 0 or not _HOST.fullmatch(parts.hostname):
            fault = f"{parts.netloc!r} is no host"
        elif len(parts.hostname.encode("idna")) > _MAX_HOST:
            fault = "the host's name is too long"
        elif any(char.isspace() or not char.isprintable() for char in base_url):
            fault = "it holds a blank"
    except (ValueError, TypeError, AttributeError, httpx.InvalidURL) as error:
        fault = str(error)
    if fault:
        raise InputError(f"{name}: {base_url!r} is no address ({fault}); write it as 'http://127.0.0.1:8000/v1'")


def _said(content: str) -> str:
    """``: the server's own words`` about a fault, on one line; empty where it says nothing in a known shape."""
    try:
        body = json.loads(content)
        error = body.get("error", body.get("detail"))
        message = error["message"] if isinstance(error, dict) else error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    words = " ".join(message.split()) if isinstance(message, str) else ""
    kept = "".join(char for char in words[:_MAX_WORDS] if char.isprintable())
    return f": {kept}" if kept else ""


def _retry_after(value: str | None) -> float | None:
    """Seconds that a server asks to wait: a number, or a date."""
    if value is None:
        return None
    try:
        return max(0.0, float(value)) if value.strip().isdigit() else _seconds_until(value)
    except (ValueError, TypeError, OverflowError):
        return None


def _seconds_until(date: str) -> float:
    return max(0.0, email.utils.parsedate_to_datetime(date).timestamp() - time.time())
