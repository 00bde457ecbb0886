"""Listens, and ends in good order."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from pivotrl.protocols import InputError, Notice

_IDLE_SECONDS = 75
"""How long an idle connection stays open: longer than clients keep theirs, or it would close under a request."""


def listen(host: str, port: int, has_key: bool) -> socket.socket:
    """A bound socket; bound before a model loads, so that a taken port is told at once.

    Raises:
        InputError: the address is taken, or not one of this machine.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"port {port} is in use on {host}; give another --port, or 0 for a free one") from None
        raise InputError(f"cannot listen on {host}, port {port} ({error.strerror}); mend --host or --port") from None
    if not has_key and not ipaddress.ip_address(bound.getsockname()[0]).is_loopback:
        warnings.warn(
            f"{host} can be reached from other machines, and no key is asked for: whoever reaches it may use the "
            "model. Set PIVOTRL_API_KEY, or listen on 127.0.0.1",
            Notice,
            stacklevel=2,
        )
    return bound


def address_of(bound: socket.socket, host: str) -> str:
    """The base URL for clients."""
    port = bound.getsockname()[1]
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{name}:{port}/v1"


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are ours: uvicorn would raise them again at the end."""
        yield


def run(app: Any, bound: socket.socket, ready: Callable[[], None], ending: Callable[[], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that run are finished first. A second Ctrl-C ends at once.

    Args:
        ready: called once the server listens.
        ending: called when it begins to end.

    Raises:
        KeyboardInterrupt: it was ended at once.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_keep_alive=_IDLE_SECONDS,
        server_header=False,
    )
    server = _Server(config)
    asyncio.run(_run(server, bound, ready, ending))
    if server.force_exit:
        raise KeyboardInterrupt


async def _run(server: _Server, bound: socket.socket, ready: Callable[[], None], ending: Callable[[], None]) -> None:
    def stop(number: int) -> None:
        if server.should_exit and number == signal.SIGINT:
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # every dropped request would be an error
            server.force_exit = True
        elif not server.should_exit:
            server.should_exit = True
            ending()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    serving = asyncio.ensure_future(server.serve(sockets=[bound]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    if server.started:
        ready()
    await serving


@contextlib.contextmanager
def in_background(app: Any, bound: socket.socket) -> Iterator[None]:
    """Serve in a thread of this process. At the end, requests that still run are dropped."""
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        lifespan="off",
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    server = _Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[bound])), name="endpoint", daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join()
