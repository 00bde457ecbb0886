"""The endpoint with many clients, with clients that hang up, and with an engine that fails.

Run alone: python -m pytest tests/test_serving_load.py
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra 'hf'")
pytest.importorskip("uvicorn", reason="needs the extra 'serve'")

import httpx

from pivotrl.serving.served import Served
from serving_setup import models_of, post, said, serving, wait_until
from test_serving import folder as folder
from test_serving import model as model
from test_serving import url as url


def test_64_conversations_at_once_say_what_each_says_alone(url: str) -> None:
    def conversation(number: int) -> list[str]:
        messages: list[dict[str, Any]] = [{"role": "user", "content": f"I am caller {number}; " * (1 + number % 3)}]
        said = []
        for turn in range(2):
            body: dict[str, Any] = {"messages": messages, "max_tokens": 4 + number % 9, "temperature": 0}
            answer = post(url, "chat/completions", **body)
            assert answer.status_code == 200, answer.text
            message = answer.json()["choices"][0]["message"]
            said.append(message["content"])
            messages = [*messages, message, {"role": "user", "content": f"{turn}: and of {number}?"}]
        return said

    with ThreadPoolExecutor(64) as threads:
        together = list(threads.map(conversation, range(64)))
    assert together == [conversation(number) for number in range(64)]
    assert len({tuple(one) for one in together}) == 64, "each has answers of its own"


def test_a_client_that_hangs_up_frees_its_room(model: Served) -> None:
    backend: Any = model.backend

    async def hang_up(address: str, stream: bool) -> None:
        body = {"model": "m", "prompt": "x", "max_tokens": 1900, "ignore_eos": True, "stream": stream}
        async with httpx.AsyncClient(trust_env=False) as client:
            if stream:
                async with client.stream("POST", f"{address}/completions", json=body) as response:
                    async for _ in response.aiter_bytes():
                        return
            else:
                with pytest.raises(httpx.ReadTimeout):
                    await client.post(f"{address}/completions", json=body, timeout=0.3)

    with serving([model]) as (address, endpoint):
        for stream in (True, False):
            asyncio.run(hang_up(address, stream))
            assert wait_until(lambda: backend.num_in_flight == 0 and endpoint.num_in_flight == 0, 10)
        said(address, "Still there?")


def test_a_client_that_hangs_up_while_it_asks_leaves_no_traceback(
    model: Served, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving([model]) as (address, _):
        with socket.create_connection(("127.0.0.1", int(address.split(":")[2].split("/")[0]))) as client:
            client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{")
        time.sleep(0.3)
        said(address, "Still there?")
    assert "Traceback" not in capfd.readouterr().err


def test_too_many_requests_are_sent_away_and_may_come_again(model: Served) -> None:
    body = {"model": "m", "prompt": "x", "max_tokens": 1500, "ignore_eos": True, "stream": True}
    with serving([model], max_requests=1) as (address, endpoint), httpx.Client(trust_env=False) as client:
        with client.stream("POST", f"{address}/completions", json=body):
            refused = post(address, "completions", prompt="y", max_tokens=1)
            assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
            assert refused.json()["error"]["type"] == "rate_limit_error"
        assert wait_until(lambda: endpoint.num_in_flight == 0)
        assert post(address, "completions", prompt="y", max_tokens=1).status_code == 200


def test_an_engine_that_fails_says_so_to_all_who_wait(folder: Path) -> None:
    (broken,) = models_of(folder)
    backend: Any = broken.backend

    def fail() -> Any:
        raise RuntimeError("the device is lost")

    with serving([broken]) as (address, _):
        backend._model.step = fail
        answers: list[httpx.Response] = []
        threads = [
            threading.Thread(target=lambda: answers.append(post(address, "completions", prompt="x"))) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(answers) == 3 and all(answer.status_code == 503 for answer in answers)
        assert "the device is lost" in answers[0].json()["error"]["message"]
        health = httpx.get(f"{address.removesuffix('/v1')}/health")
        assert health.status_code == 503 and health.json()["status"] == "faulty"
