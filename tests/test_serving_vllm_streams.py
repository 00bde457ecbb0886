"""What our endpoint makes of vLLM's streams, shown by a small server that sends them. `test_serving_vllm.py` has a real
vLLM.

Run alone: python -m pytest tests/test_serving_vllm_streams.py
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs the extra 'serve'")

from pivotrl.protocols.live import Ask, News
from pivotrl.records import Sampling
from pivotrl.serving.backends import Begun, Told
from pivotrl.serving.refusals import Refused
from pivotrl.serving.vllm_backend import VllmBackend

ASK = Ask((1, 2, 3), Sampling(max_tokens=2), frozenset({2}), num_samples=2)


def part(sample: int, token: int, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": sample, "token_ids": [token], "finish_reason": finish}]}


USAGE: dict[str, Any] = {"choices": [], "usage": {"prompt_tokens_details": {"cached_tokens": 2}}}
WHOLE = [part(0, 5), part(1, 6, "stop"), part(0, 7, "length"), USAGE]


@contextlib.contextmanager
def sending(parts: Sequence[Any]) -> Iterator[VllmBackend]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in parts))

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        process: Any = SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}", fault=None)
        yield VllmBackend(process, "base")
        server.shutdown()


def told(parts: Sequence[Any]) -> list[Told]:
    """Everything up to the last end, as whoever asked reads it."""

    async def read(backend: VllmBackend) -> list[Told]:
        found: list[Told] = []
        async with backend.open([ASK]) as batches:
            async for batch in batches:
                found += batch
                if sum(isinstance(one, News) and one.finish is not None for _, one in found) == ASK.num_samples:
                    break
        return found

    with sending(parts) as backend:
        return asyncio.run(asyncio.wait_for(read(backend), 20))


def test_the_cached_tokens_are_told_before_the_answer_ends() -> None:
    found = [one for _, one in told(WHOLE)]
    assert [one.num_cached for one in found if isinstance(one, Begun)] == [2]
    news = [one for one in found if isinstance(one, News)]
    tokens = [[t.token_id for one in news if one.sample == n for t in one.tokens] for n in (0, 1)]
    assert tokens == [[5, 7], [6]] and {one.sample: one.finish for one in news} == {0: "length", 1: "stop"}


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (WHOLE[:2], "its stream ended before 1 of 2 samples did"),
        ([{"choices": ["x"]}], "no usable answer"),
        ([{"error": "out of blocks"}], "out of blocks"),
    ],
)
def test_a_broken_stream_is_a_refusal_and_nobody_waits(parts: Sequence[Any], words: str) -> None:
    with pytest.raises(Refused, match=words):
        told(parts)
