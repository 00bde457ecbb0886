"""The endpoint: answers, streams, refusals; a tiny model on our own engine.

Run alone: python -m pytest tests/test_serving.py
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra 'hf'")
pytest.importorskip("uvicorn", reason="needs the extra 'serve'")

import httpx

from pivotrl.policies.hf import Policy
from pivotrl.records import Sampling
from pivotrl.samplers.openai import Sampler
from pivotrl.samplers.openai.checking import check_server
from pivotrl.samplers.openai.probing import asked
from pivotrl.serving.local import LocalBackend
from pivotrl.serving.served import Served
from pivotrl.serving.whole_answers import WholeAnswers
from serving_setup import models_of, post, said, serving
from tiny import save_tiny_model

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Weights that are large and not tied, or the model would repeat the last token.
    return save_tiny_model(tmp_path_factory.mktemp("model"), tie_word_embeddings=False, initializer_range=0.3)


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[Served]:
    (found,) = models_of(folder)
    yield found
    found.backend.close()


@pytest.fixture(scope="module")
def url(model: Served) -> Iterator[str]:
    with serving([model]) as (address, _):
        yield address


def events(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


# --- what is answered ---


def test_a_seed_fixes_the_answer_and_another_seed_changes_it(url: str) -> None:
    first, again, other = (said(url, "A story, please.", seed=seed) for seed in (1, 1, 2))
    assert first["message"]["content"] == again["message"]["content"] != other["message"]["content"]
    assert said(url, "A story, please.")["message"] != said(url, "A story, please.")["message"], "no seed, no repeat"


def test_samples_of_one_request_differ_and_are_counted(url: str) -> None:
    answer = post(url, "completions", prompt=[[5, 6, 7], [8, 9]], n=3, max_tokens=7, seed=1).json()
    assert [choice["index"] for choice in answer["choices"]] == list(range(6))
    assert len({choice["text"] for choice in answer["choices"]}) == 6, "prompts do not share random numbers either"
    assert answer["usage"]["prompt_tokens"] == 5 and answer["usage"]["completion_tokens"] <= 42


def test_a_stream_says_what_the_whole_answer_says(url: str) -> None:
    for way in ({"seed": 3}, {"seed": 4, "tools": [WEATHER]}, {"seed": 5, "n": 3}, {"temperature": 0, "stop": ["a"]}):
        body = {"messages": [{"role": "user", "content": "Tell me."}], "max_tokens": 60, **way}
        whole = post(url, "chat/completions", **body).json()
        parts = events(post(url, "chat/completions", **body, stream=True, stream_options={"include_usage": True}))
        assert parts[-1]["choices"] == []
        assert parts[-1]["usage"]["total_tokens"] == whole["usage"]["total_tokens"]
        for choice in whole["choices"]:
            own = [c for part in parts[:-1] for c in part["choices"] if c["index"] == choice["index"]]
            assert own[0]["delta"]["role"] == "assistant"
            assert "".join(c["delta"].get("content") or "" for c in own) == choice["message"]["content"]
            assert own[-1]["finish_reason"] == choice["finish_reason"]


def test_a_streamed_completion_has_the_same_text_tokens_and_logprobs(url: str) -> None:
    body: dict[str, Any] = {"prompt": "Tell me", "max_tokens": 40, "seed": 1, "logprobs": 2, "return_token_ids": True}
    whole = post(url, "completions", **body).json()["choices"][0]
    parts = [c for part in events(post(url, "completions", **body, stream=True)) for c in part["choices"]]
    assert "".join(part["text"] for part in parts) == whole["text"]
    assert [token for part in parts for token in part["token_ids"]] == whole["token_ids"]
    offsets = [value for part in parts for value in part["logprobs"]["text_offset"]]
    assert offsets == sorted(offsets) and offsets[-1] > 5
    told = [value for part in parts for value in part["logprobs"]["token_logprobs"]]
    assert told == pytest.approx(whole["logprobs"]["token_logprobs"], abs=1e-4)


def test_a_stop_text_ends_the_answer_and_is_not_part_of_it(url: str) -> None:
    full = post(url, "completions", prompt="Tell me", max_tokens=40, seed=1).json()["choices"][0]["text"]
    stop = full[10:13]
    choice = post(url, "completions", prompt="Tell me", max_tokens=40, seed=1, stop=["never there", stop]).json()
    found = choice["choices"][0]
    assert found["text"] == full[: full.index(stop)] and found["finish_reason"] == "stop"
    assert found["stop_reason"] == stop


def test_a_stop_token_ends_the_answer(url: str) -> None:
    body: dict[str, Any] = {"prompt": [5, 6, 7], "max_tokens": 40, "temperature": 0, "return_token_ids": True}
    ids = post(url, "completions", **body).json()["choices"][0]["token_ids"]
    found = post(url, "completions", **body, stop_token_ids=[ids[4]]).json()["choices"][0]
    assert found["token_ids"] == ids[: ids.index(ids[4]) + 1] and found["finish_reason"] == "stop"
    assert found["stop_reason"] == ids[4], "as vLLM tells it"


def test_logprobs_come_in_the_shapes_of_both_kinds(url: str) -> None:
    rows = said(url, "Hi", seed=1, logprobs=True, top_logprobs=3, max_tokens=5)["logprobs"]["content"]
    assert len(rows) == 5 and all(len(row["top_logprobs"]) == 3 and row["logprob"] <= 0 for row in rows)
    told = post(url, "completions", prompt="Hi", max_tokens=5, logprobs=0, return_tokens_as_token_ids=True).json()
    logprobs = told["choices"][0]["logprobs"]
    assert logprobs["top_logprobs"] is None and all(token.startswith("token_id:") for token in logprobs["tokens"])
    assert said(url, "Hi")["logprobs"] is None


def test_the_next_turn_of_a_conversation_is_read_from_the_cache(url: str) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "A long question about the harbour. " * 5}]
    cached = []
    for _ in range(3):
        answer = post(url, "chat/completions", messages=messages, max_tokens=10, temperature=0).json()
        cached.append((answer["usage"]["prompt_tokens_details"]["cached_tokens"], answer["usage"]["prompt_tokens"]))
        messages += [answer["choices"][0]["message"], {"role": "user", "content": "And then?"}]
    assert cached[1][0] >= cached[0][1] - 20 and cached[2][0] >= cached[1][1] - 20


def test_it_is_fit_for_our_own_sampler(url: str, folder: Path) -> None:
    for tokenizer in (str(folder), None):
        findings = list(check_server(Sampler(base_url=url, model="m", tokenizer=tokenizer)))
        # A random model writes no calls and does not end its answers.
        may_warn = ("tool calls", "stop", "latency", *(() if tokenizer else ("token ids",)))
        assert len(findings) >= 12
        assert [f for f in findings if f.status != "ok" and f.name not in may_warn] == []
        assert all(finding.status != "fault" for finding in findings)


def test_profiles_from_it_have_the_tokens_and_logprobs_of_the_model(url: str, folder: Path, model: Served) -> None:
    sampler = Sampler(base_url=url, model="m", tokenizer=str(folder))
    (group,) = sampler.sample([asked("Hello")], 3, Sampling(max_tokens=12))
    assert group.fault is None and len({one.token_ids_T for one in group.completions_G}) == 3
    assert all(value <= 0.0 for one in group.completions_G for value in one.logprobs_T)
    assert sampler.served.facts["sha"] == model.sha256


def test_a_model_that_cannot_be_split_is_answered_one_by_one(folder: Path, model: Served) -> None:
    generator = Policy(model=str(folder), trainable=False, device="cpu").generator
    backend = LocalBackend(WholeAnswers(generator), tells_tops=False)
    with serving([dataclasses.replace(model, backend=backend)]) as (address, _), serving([model]) as (own, _):
        with ThreadPoolExecutor(8) as threads:
            told = list(threads.map(lambda i: said(address, f"I am {i}", temperature=0), range(8)))
        assert [one["message"] for one in told] == [said(own, f"I am {i}", temperature=0)["message"] for i in range(8)]
        rows = said(address, "Hi", logprobs=True, temperature=0)["logprobs"]["content"]
        assert all(row["logprob"] <= 0 for row in rows)
        refused = post(address, "completions", prompt="x", logprobs=3)
        assert refused.status_code == 400 and "top_logprobs" in refused.json()["error"]["message"]
    backend.close()


# --- what is refused ---


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tool_choice": "required", "tools": [WEATHER]}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {**WEATHER["function"], "strict": True}}]}, "tools[0]"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"tempratur": 0}, "tempratur"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"n": 0}, "n"),
        ({"n": 1000}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 99999}, "max_tokens"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stop": [""]}, "stop"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0]"),
        ({"prompt": "x"}, "prompt"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_its_name(url: str, body: dict[str, Any], param: str) -> None:
    answer = post(url, "chat/completions", **{"messages": [{"role": "user", "content": "Hi"}], **body})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"].startswith(param) and error["message"] and error["type"] == "invalid_request_error"


def test_fields_without_effect_and_neutral_ones_are_taken(url: str) -> None:
    neutral = {"frequency_penalty": 0.0, "logit_bias": {}, "response_format": {"type": "text"}, "stop": None}
    said(url, "Hi", user="me", store=False, metadata={"a": "b"}, tool_choice="none", **neutral)


def test_other_faults_have_their_own_status(url: str, model: Served) -> None:
    assert post(url, "chat/completions", model="other", messages=[{"role": "user", "content": "x"}]).status_code == 404
    assert httpx.get(f"{url}/models/other").status_code == 404 and httpx.get(f"{url}/nothing").status_code == 404
    assert httpx.get(f"{url}/chat/completions").status_code == 405
    for content in (b"{bad", b"[]", b'"x"', b"\xff", b'{"a":' * 5000):
        answer = httpx.post(f"{url}/completions", content=content)
        assert answer.status_code == 400 and answer.json()["error"]["message"]
    assert post(url, "completions", prompt=[5, 99999]).status_code == 400
    with serving([model], max_request_mib=0.001) as (small, _):
        assert post(small, "completions", prompt="x" * 2000).status_code == 413


def test_a_key_is_asked_for_where_there_is_one(model: Served) -> None:
    with serving([model], api_key="secret") as (address, _):
        body = {"model": "m", "prompt": "x", "max_tokens": 1}
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}):
            answer = httpx.post(f"{address}/completions", json=body, headers=headers)
            assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"
        assert httpx.get(f"{address}/models").status_code == 401
        right = {"Authorization": "Bearer secret"}
        assert httpx.post(f"{address}/completions", json=body, headers=right).status_code == 200
        assert httpx.get(f"{address.removesuffix('/v1')}/health").json()["status"] == "ok", "needs no key"
