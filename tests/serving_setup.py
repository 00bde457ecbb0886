"""Endpoints for tests: a tiny model behind our own engine, and the process that a user starts."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from pivotrl.protocols.live import Ask, Finish, LiveToken, News
from pivotrl.rendering import Renderer
from pivotrl.serving.app import Endpoint
from pivotrl.serving.choosing import choose
from pivotrl.serving.loading import load
from pivotrl.serving.local import LocalBackend
from pivotrl.serving.options import ServeOptions
from pivotrl.serving.served import Served

OWN = ServeOptions(engine="own")


class Scripted:
    """A live model that says one text after the other, whatever it is asked; a token a step."""

    def __init__(self, renderer: Renderer, texts: Sequence[str]) -> None:
        self._end_id = renderer.end_id
        ids = [renderer.tokenizer(text, add_special_tokens=False).input_ids for text in texts]
        self._left = [(*own, self._end_id) for own in ids]
        self._growing: dict[str, list[Sequence[int]]] = {}

    @property
    def is_busy(self) -> bool:
        return bool(self._growing)

    def fits(self, asks: Sequence[Ask]) -> bool:
        return True

    def admit(self, asks: Mapping[str, Ask]) -> Mapping[str, int]:
        for key, ask in asks.items():
            self._growing[key] = [self._left.pop(0)[: ask.sampling.max_tokens] for _ in range(ask.num_samples)]
        return dict.fromkeys(asks, 0)

    def step(self) -> Mapping[str, list[News]]:
        told: dict[str, list[News]] = {}
        for key, samples in list(self._growing.items()):
            rest = [sample[1:] for sample in samples]
            told[key] = [
                News(number, (LiveToken(sample[0], -0.5),), None if sample[1:] else self._finish(sample[0]))
                for number, sample in enumerate(samples)
                if sample
            ]
            self._growing[key] = rest
            if not any(rest):
                del self._growing[key]
        return told

    def _finish(self, last: int) -> Finish:
        return "stop" if last == self._end_id else "length"

    def cancel(self, key: str) -> None:
        self._growing.pop(key, None)


@contextlib.contextmanager
def scripted(model: Served, *texts: str, **limits: Any) -> Iterator[str]:
    """The address of a model with the same renderer that says these texts."""
    backend = LocalBackend(Scripted(model.renderer, texts))
    try:
        with serving([dataclasses.replace(model, backend=backend)], **limits) as (address, _):
            yield address
    finally:
        backend.close()


def models_of(folder: Path, name: str = "m", **more: Any) -> list[Served]:
    return load(choose(str(folder), name=name, **more), OWN, lambda text: None)


@contextlib.contextmanager
def serving(models: Sequence[Served], **limits: Any) -> Iterator[tuple[str, Endpoint]]:
    """(base URL, endpoint), served by a thread of this process."""
    endpoint = Endpoint(models, **{"api_key": None, "max_requests": 256, "max_request_mib": 4.0, **limits})
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        config = uvicorn.Config(endpoint.app, log_level="warning", access_log=False, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[bound])))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{bound.getsockname()[1]}/v1", endpoint
        finally:
            server.should_exit = True
            thread.join(30)


class Process:
    """``pivotrl serve`` as users start it."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        words = [sys.executable, "-m", "pivotrl.cli", "serve", *arguments]
        self.process = subprocess.Popen(
            words,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def url(self) -> str:
        """Its address, once it answers."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert " at http" in line, self.process.communicate()
        return line.rsplit(" at ", 1)[1].strip()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """(exit code, what it said on stderr)"""
        self.process.send_signal(number)
        _, told = self.process.communicate(timeout=60)
        return self.process.returncode, told


_CLIENT = httpx.Client(timeout=120, trust_env=False, limits=httpx.Limits(max_connections=None))


def post(url: str, path: str, **body: Any) -> httpx.Response:
    return _CLIENT.post(f"{url}/{path}", json={"model": "m", **body})


def said(url: str, text: str, **more: Any) -> dict[str, Any]:
    """The first choice of a chat completion."""
    body: dict[str, Any] = {"messages": [{"role": "user", "content": text}], "max_tokens": 12, **more}
    answer = post(url, "chat/completions", **body)
    assert answer.status_code == 200, answer.text
    choice: dict[str, Any] = answer.json()["choices"][0]
    return choice


def wait_until(holds: Any, seconds: float = 20.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.02)
    return False
