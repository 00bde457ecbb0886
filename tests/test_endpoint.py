"""The endpoint that a judge asks, and a sampler can: order, bound, deadline, retries, and a key that nobody sees.

Run alone: python -m pytest tests/test_endpoint.py
"""

from __future__ import annotations

import gc
import json
import threading
import time
from collections import Counter
from typing import Any

import pytest

pytest.importorskip("httpx", reason="needs the extra 'judge'")

from crowded_server import CrowdedServer
from pivotrl.judging.killable import Killable
from pivotrl.protocols import InputError
from pivotrl.protocols.endpoint import Endpoint, NoAnswer


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def echo(body: dict[str, Any]) -> str:
    return json.dumps(body)


def prompts(number: int) -> list[dict[str, Any]]:
    return [{"model": "m", "prompt": [number]} for number in range(number)]


def test_answers_come_in_order_and_no_more_requests_are_under_way_than_allowed() -> None:
    with CrowdedServer(expected=5, answer=echo) as server:
        endpoint = Endpoint("sampler", server.url, max_in_flight=5)
        found = endpoint.post_all("completions", prompts(40))
        assert [json.loads(str(text)) for text in found] == prompts(40)
        assert server.peak == 5 and set(server.paths) == {"/v1/completions"}


def test_the_bound_holds_over_all_threads() -> None:
    with CrowdedServer(expected=5, answer=echo) as server:
        endpoint = Endpoint("sampler", server.url, max_in_flight=5)
        threads = [threading.Thread(target=endpoint.post_all, args=("x", prompts(6))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.peak == 5 and len(server.bodies) == 24


def test_waiting_for_a_turn_is_no_part_of_the_deadline() -> None:
    with CrowdedServer(answer=lambda body: time.sleep(0.3) or echo(body)) as server:  # type: ignore[func-returns-value]
        endpoint = Endpoint("sampler", server.url, max_in_flight=1, deadline_seconds=1.2)
        assert all(isinstance(text, str) for text in endpoint.post_all("x", prompts(6)))  # 2.1 s in all


def test_a_request_without_an_answer_is_told_beside_those_with_one() -> None:
    def odd(body: dict[str, Any]) -> str:
        if body["prompt"][0] % 2:
            raise KeyError(413)
        return echo(body)

    with CrowdedServer(answer=odd) as server:
        found = Endpoint("sampler", server.url).post_all("x", prompts(4))
    assert [isinstance(text, NoAnswer) for text in found] == [False, True, False, True]
    assert isinstance(found[1], NoAnswer) and (found[1].reason, str(found[1])) == ("refused", "status 413")


def test_a_server_that_asks_for_time_gets_it() -> None:
    asked: list[float] = []

    def busy(body: dict[str, Any]) -> str:
        asked.append(time.monotonic())
        if len(asked) == 1:
            raise KeyError(429, ("Retry-After", "1"))
        return echo(body)

    with CrowdedServer(answer=busy) as server:
        assert isinstance(Endpoint("sampler", server.url).post_all("x", prompts(1))[0], str)
    assert asked[1] - asked[0] >= 1.0


def test_a_field_that_the_server_does_not_take_is_left_out() -> None:
    def strict(body: dict[str, Any]) -> str:
        if "extra" in body:
            raise KeyError(422)
        return echo(body)

    with CrowdedServer(answer=strict) as server:
        endpoint = Endpoint("sampler", server.url, max_tries=1)
        (text,) = endpoint.post_all("x", [{"extra": 1, "prompt": "p"}], optional=("extra",))
        assert json.loads(str(text)) == {"prompt": "p"}
        (fault,) = endpoint.post_all("x", [{"extra": 1, "prompt": "p"}])
        assert isinstance(fault, NoAnswer) and fault.reason == "refused"


def test_an_answer_that_is_too_large_is_none() -> None:
    with CrowdedServer(answer=lambda body: "x" * 2000) as server:
        (fault,) = Endpoint("sampler", server.url, max_answer_bytes=1000).post_all("x", prompts(1))
    assert isinstance(fault, NoAnswer) and fault.reason == "too_large"


def test_a_refused_key_gives_up_the_other_requests_and_nobody_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sesame-opens")

    def closed(body: dict[str, Any]) -> str:
        raise KeyError(401)

    with CrowdedServer(answer=closed) as server:
        endpoint = Endpoint("sampler", server.url, "MY_KEY", max_in_flight=2)
        with pytest.raises(InputError, match=r"the sampler at http://127.0.0.1:\d+/v1 answers 401.*'m'") as told:
            endpoint.post_all("x", prompts(50))
        assert len(server.bodies) < 10 and set(server.keys) == {"Bearer sesame-opens"}
        assert "sesame" not in f"{told.value} {endpoint!r} {vars(endpoint)}"
        monkeypatch.delenv("MY_KEY")
        with pytest.raises(InputError, match="sampler: the environment variable 'MY_KEY' is not set"):
            endpoint.post_all("x", prompts(1))


def test_connections_are_used_again() -> None:
    ports: Counter[int] = Counter()

    class Counting(CrowdedServer):
        def process_request(self, request: Any, client_address: Any) -> None:
            ports[client_address[1]] += 1
            super().process_request(request, client_address)

    with Counting(answer=echo) as server:
        endpoint = Endpoint("sampler", server.url, max_in_flight=2)
        for _ in range(3):
            endpoint.post_all("x", prompts(6))
    assert len(ports) <= 3


def test_connections_are_closed_with_the_endpoint() -> None:
    with CrowdedServer(answer=echo) as server:
        Endpoint("sampler", server.url).post_all("x", prompts(8))
        gc.collect()
        until = time.monotonic() + 10
        while server.num_connections and time.monotonic() < until:
            time.sleep(0.01)
        assert server.num_connections == 0


def test_a_forked_process_opens_connections_of_its_own() -> None:
    with CrowdedServer(answer=echo) as server:
        endpoint = Endpoint("sampler", server.url)
        endpoint.post_all("x", prompts(1))
        child = Killable(lambda line: str(endpoint.post_all("x", [{"prompt": line.decode()}])[0]).encode())
        assert json.loads(child.ask(b"there", 10)) == {"prompt": "there"}
        child.close()
        assert json.loads(str(endpoint.post_all("x", [{"prompt": "here"}])[0])) == {"prompt": "here"}
