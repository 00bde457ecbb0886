"""What a client of OpenAI's API may rely on: one suite for our own engine, for vLLM, and for each client library."""

from __future__ import annotations

from typing import Any

import openai

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
_ASK: Any = [{"role": "user", "content": "Invent a short story about a fox."}]


def check_contract(url: str, model: str, key: str = "none") -> None:
    """Everything of the API that does not depend on what the model says, asked by the official client."""
    with openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=600) as client:
        _models(client, model)
        _chat(client, model)
        _streams(client, model)
        _completions(client, model)
        _refusals(client, model)


def _models(client: openai.OpenAI, model: str) -> None:
    assert model in [one.id for one in client.models.list()]
    assert client.models.retrieve(model).id == model


def _chat(client: openai.OpenAI, model: str) -> None:
    def ask(**more: Any) -> Any:
        return client.chat.completions.create(model=model, messages=_ASK, **{"max_tokens": 16, **more})

    first, again, other = ask(seed=1), ask(seed=1), ask(seed=2)
    assert first.choices[0].message.content == again.choices[0].message.content != other.choices[0].message.content
    assert first.usage.completion_tokens <= 16 and first.usage.total_tokens > first.usage.prompt_tokens > 0
    several = ask(n=3, seed=5, logprobs=True, top_logprobs=2, temperature=0.9, top_p=0.95)
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in several.choices}) > 1
    for choice in several.choices:
        rows = choice.logprobs.content
        assert 1 <= len(rows) <= 16 and all(row.logprob <= 0 and len(row.top_logprobs) == 2 for row in rows)
    assert ask(temperature=0).choices[0].message == ask(temperature=0).choices[0].message
    with_tools = ask(tools=[WEATHER], tool_choice="auto", max_completion_tokens=8, max_tokens=None)
    assert with_tools.choices[0].finish_reason in ("length", "stop", "tool_calls")
    assert ask(tools=[WEATHER], tool_choice="none").choices[0].message.tool_calls is None
    assert ask(max_tokens=1).choices[0].finish_reason == "length"


def _streams(client: openai.OpenAI, model: str) -> None:
    given: Any = {"model": model, "messages": _ASK, "max_tokens": 24, "temperature": 0}
    whole = client.chat.completions.create(**given)
    parts = list(client.chat.completions.create(**given, stream=True, stream_options={"include_usage": True}))
    told = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    assert told == whole.choices[0].message.content
    assert [p.choices[0].finish_reason for p in parts if p.choices][-1] == whole.choices[0].finish_reason
    assert parts[-1].usage.completion_tokens == whole.usage.completion_tokens


def _completions(client: openai.OpenAI, model: str) -> None:
    extra = {"return_token_ids": True}
    given: Any = {"model": model, "prompt": "The harbour at dawn", "max_tokens": 20, "seed": 3, "extra_body": extra}
    first = client.completions.create(**given, logprobs=2).choices[0]
    ids = first.model_extra["prompt_token_ids"]
    same = client.completions.create(**{**given, "prompt": ids}).choices[0]
    assert same.text == first.text and same.model_extra["token_ids"] == first.model_extra["token_ids"]
    assert len(first.logprobs.token_logprobs) == len(first.logprobs.tokens) == len(first.model_extra["token_ids"])
    stop = first.text[6:9]
    cut = client.completions.create(**given, stop=[stop]).choices[0]
    assert cut.text == first.text[: first.text.index(stop)] and cut.finish_reason == "stop"
    several = client.completions.create(**{**given, "prompt": ["One", "Two"]}, n=2)
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    streamed = list(client.completions.create(**given, stream=True))
    assert "".join(part.choices[0].text for part in streamed) == first.text


def _refusals(client: openai.OpenAI, model: str) -> None:
    def refused(kind: type[openai.APIStatusError], param: str | None, **more: Any) -> None:
        try:
            client.chat.completions.create(**{"model": model, "messages": _ASK, "max_tokens": 4, **more})
        except kind as error:
            assert param is None or error.param == param
            return
        raise AssertionError(f"{more} was not refused")

    refused(openai.NotFoundError, "model", model="none-such")
    refused(openai.BadRequestError, "response_format", response_format={"type": "json_object"})
    refused(openai.BadRequestError, "tool_choice", tools=[WEATHER], tool_choice="required")
    refused(openai.BadRequestError, "max_tokens", max_tokens=10_000_000)
    refused(openai.BadRequestError, "presence_penalty", presence_penalty=1.0)
