"""The official `openai` client against the endpoint: the contract, tool calls, thoughts, and keys.

Run alone: python -m pytest tests/test_serving_clients.py
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra 'hf'")
pytest.importorskip("uvicorn", reason="needs the extra 'serve'")
pytest.importorskip("openai", reason="needs the package openai")

import openai

from pivotrl.rendering import Renderer
from pivotrl.serving.served import Served
from serving_contract import WEATHER, check_contract
from serving_setup import models_of, scripted, serving
from tiny import save_tiny_model

CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "%s"}}\n</tool_call>'
USER: Any = [{"role": "user", "content": "What is the weather?"}]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = save_tiny_model(tmp_path_factory.mktemp("model"), tie_word_embeddings=False, initializer_range=0.3)
    (found,) = models_of(folder)
    yield found
    found.backend.close()


def ask(url: str, **more: Any) -> Any:
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60)
    return client.chat.completions.create(**{"model": "m", "messages": USER, **more})


def test_the_contract_holds(model: Served) -> None:
    with serving([model], api_key="secret") as (url, _):
        check_contract(url, "m", "secret")
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=url, api_key="wrong", max_retries=0).models.list()


def test_parallel_calls_come_as_calls_and_go_back_with_their_results(model: Served) -> None:
    text = f"I look. {CALL % 'Oslo'}\n{CALL % 'Rome'}"
    with scripted(model, text, text, "It rains in both.") as url:
        choice = ask(url, tools=[WEATHER]).choices[0]
        calls = choice.message.tool_calls
        assert choice.finish_reason == "tool_calls" and choice.message.content == "I look."
        assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Oslo", "Rome"]
        assert len({call.id for call in calls}) == 2
        only = ask(url, tools=[WEATHER], parallel_tool_calls=False).choices[0].message.tool_calls
        assert [json.loads(call.function.arguments)["city"] for call in only] == ["Oslo"]
        results = [{"role": "tool", "tool_call_id": call.id, "content": "rain"} for call in calls]
        messages = [*USER, choice.message.model_dump(exclude_none=True), *results]
        assert ask(url, messages=messages, tools=[WEATHER]).choices[0].message.content == "It rains in both."


def test_a_streamed_call_never_shows_as_text(model: Served) -> None:
    texts = [f"I look. {CALL % 'Oslo'}\n{CALL % 'Rome'}", "5 < 7 and {so on}, said <b>he</b>."]
    with scripted(model, *texts) as url:
        parts = [part.choices[0] for part in ask(url, tools=[WEATHER], stream=True)]
        assert "".join(part.delta.content or "" for part in parts) == "I look."
        assert parts[0].delta.content in ("", "I"), "text is not held until the end"
        calls = [call for part in parts for call in part.delta.tool_calls or ()]
        assert [(call.index, json.loads(call.function.arguments)["city"]) for call in calls] == [
            (0, "Oslo"),
            (1, "Rome"),
        ]
        assert parts[-1].finish_reason == "tool_calls"
        plain = [part.choices[0] for part in ask(url, tools=[WEATHER], stream=True)]
        assert "".join(part.delta.content or "" for part in plain) == texts[1]
        assert sum(bool(part.delta.content) for part in plain) > 5


@pytest.mark.parametrize(
    ("actions", "text"),
    [
        ("hermes", f"hm\n</think>\n\nThe answer. {CALL % 'Oslo'}"),
        ("lfm2", "I look.<|tool_call_start|>[weather(city='Oslo-Kristiania-Christiania')]<|tool_call_end|>"),
        ("lfm2", "I look.<|tool_call_start|>[weather(city='Oslo"),
    ],
)
def test_a_stream_adds_up_to_the_whole_answer(model: Served, actions: str, text: str) -> None:
    renderer = Renderer(model.renderer.tokenizer, stop_ids=model.renderer.stop_ids, style="chatml", actions=actions)
    with scripted(dataclasses.replace(model, renderer=renderer), text, text) as url:
        message = ask(url, tools=[WEATHER]).choices[0].message
        parts = [part.choices[0].delta for part in ask(url, tools=[WEATHER], stream=True)]
        assert "".join(part.content or "" for part in parts) == message.content
        assert sum(len(part.tool_calls or ()) for part in parts) == len(message.tool_calls or ())


def test_the_clients_own_helper_puts_a_streamed_message_together(model: Served) -> None:
    client_options: Any = {"api_key": "none", "max_retries": 0}
    with scripted(model, f"I look. {CALL % 'Oslo'}") as url, openai.OpenAI(base_url=url, **client_options) as client:
        with client.chat.completions.stream(model="m", messages=USER, tools=[WEATHER]) as stream:
            message = stream.get_final_completion().choices[0].message
        assert message.content == "I look." and message.tool_calls
        assert json.loads(message.tool_calls[0].function.arguments) == {"city": "Oslo"}


def test_the_documented_commands_and_programs_run(model: Served) -> None:
    text = (Path(__file__).parents[1] / "docs" / "serving.md").read_text()
    with serving([dataclasses.replace(model, name="after")]) as (url, _):
        text = text.replace("http://127.0.0.1:8000/v1", url)
        (asked,) = re.findall(r"^    (curl .*\n.*)$", text, re.MULTILINE)
        if shutil.which("curl"):
            told = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True).stdout
            assert json.loads(told)["choices"][0]["message"]["role"] == "assistant"
        program = re.search(r"```python\n(from openai.*?)```", text, re.DOTALL)
        assert program is not None
        done = subprocess.run([sys.executable, "-c", program[1]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    whole, _, streamed = done.stdout.partition("\n")
    assert whole.rsplit(" ", 1)[0].strip() == streamed.strip() or "\n" in streamed


def litellm(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # it would fetch prices from the network
    return subprocess.run(words, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_litellm_understands_it(model: Served) -> None:
    python = os.environ.get("LITELLM_PYTHON", "")
    if not Path(python).is_file():
        pytest.skip("set LITELLM_PYTHON to the interpreter of an environment with LiteLLM (make test-serving)")
    two = f"{CALL % 'Oslo'}\n{CALL % 'Rome'}"
    program = Path(__file__).with_name("litellm_contract.py")
    with scripted(model, "It rains.", "It rains.", two, two, "It rains.", api_key="secret") as url:
        done = litellm(python, str(program), url, "secret")
    assert done.stdout.strip().endswith("ok"), done.stderr
    page = (Path(__file__).parents[1] / "docs" / "serving.md").read_text()
    documented = re.search(r"```python\n(import litellm.*?)```", page, re.DOTALL)
    assert documented is not None
    with scripted(model, "Hello to you.") as url:
        program_text = documented[1].replace("http://127.0.0.1:8000/v1", url).replace("openai/after", "openai/m")
        assert litellm(python, "-c", program_text).stdout == "Hello to you.\n"


def test_a_malformed_call_is_text_with_the_parsers_reason(model: Served) -> None:
    broken = '<tool_call>\n{"name": "weather", "arguments": \n</tool_call>'
    with scripted(model, broken, broken) as url:
        choice = ask(url, tools=[WEATHER]).choices[0]
        assert choice.message.content == broken and choice.finish_reason == "stop" and not choice.message.tool_calls
        assert choice.model_extra["parse_error"] == "tool_call_is_not_json"
        parts = [part.choices[0] for part in ask(url, tools=[WEATHER], stream=True)]
        assert "".join(part.delta.content or "" for part in parts) == broken
        assert parts[-1].model_extra["parse_error"] == "tool_call_is_not_json"


def test_without_tools_nothing_is_a_call(model: Served) -> None:
    with scripted(model, CALL % "Oslo", CALL % "Oslo") as url:
        for more in ({}, {"tools": [WEATHER], "tool_choice": "none"}):
            message = ask(url, **more).choices[0].message
            assert message.content == CALL % "Oslo" and message.tool_calls is None


def test_a_call_that_was_cut_is_not_a_call(model: Served) -> None:
    with scripted(model, CALL % "Oslo") as url:
        choice = ask(url, tools=[WEATHER], max_tokens=30).choices[0]
        assert choice.finish_reason == "length" and not choice.message.tool_calls
        assert choice.message.content == (CALL % "Oslo")[:30].strip()


def test_thoughts_are_told_apart(model: Served) -> None:
    text = "<think>\nRain or sun?\n</think>\n\nRain."
    with scripted(model, text, text, "<think>\nEndless") as url:
        message = ask(url).choices[0].message
        assert message.content == "Rain." and message.model_extra["reasoning_content"] == "Rain or sun?"
        parts = [part.choices[0].delta for part in ask(url, stream=True)]
        assert "".join(part.content or "" for part in parts) == "Rain."
        assert "".join((part.model_extra or {}).get("reasoning_content") or "" for part in parts) == "Rain or sun?"
        message = ask(url).choices[0].message
        assert message.content == "" and message.model_extra["reasoning_content"] == "Endless"


def test_characters_are_never_cut(model: Served) -> None:
    text = "Ærø, 東京, 🦊!"  # the tokens of this tokenizer are bytes
    with scripted(model, text, text) as url:
        parts = [part.choices[0].delta.content or "" for part in ask(url, stream=True)]
        assert "".join(parts) == text and not any("\ufffd" in part for part in parts)
        assert ask(url, stop=["京"]).choices[0].message.content == "Ærø, 東"
