"""Asks an endpoint with LiteLLM; run by an interpreter that has it: python litellm_contract.py URL KEY

Its packages do not go with ours, so it is a program of its own. It prints ``ok`` at the end.
"""

from __future__ import annotations

import asyncio
import json
import sys

import litellm

url, key = sys.argv[1:]
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
given = {
    "model": "openai/m",
    "api_base": url,
    "api_key": key,
    "messages": [{"role": "user", "content": "What is the weather?"}],
    "max_retries": 0,
}

# The endpoint says: a plain text, the same in a stream, two calls, the same in a stream, a text for the async client.
plain = litellm.completion(**given, temperature=0.7, seed=1, max_tokens=200)
assert plain.choices[0].message.content == "It rains.", plain
assert plain.usage.completion_tokens > 0
parts = litellm.completion(**given, stream=True, stream_options={"include_usage": True})
assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == "It rains."
called = litellm.completion(**given, tools=[WEATHER], tool_choice="auto")
assert called.choices[0].finish_reason == "tool_calls"
cities = [json.loads(call.function.arguments)["city"] for call in called.choices[0].message.tool_calls]
assert cities == ["Oslo", "Rome"], cities
parts = list(litellm.completion(**given, tools=[WEATHER], stream=True))
built = litellm.stream_chunk_builder(parts)
assert [json.loads(call.function.arguments)["city"] for call in built.choices[0].message.tool_calls] == ["Oslo", "Rome"]
later = asyncio.run(litellm.acompletion(**given))
assert later.choices[0].message.content == "It rains."
try:
    litellm.completion(**given, response_format={"type": "json_object"})
    raise AssertionError("response_format was not refused")
except litellm.BadRequestError as error:
    assert "response_format" in str(error)
try:
    litellm.completion(**{**given, "api_key": "wrong"})
    raise AssertionError("a wrong key was taken")
except litellm.AuthenticationError:
    pass
print("ok")
