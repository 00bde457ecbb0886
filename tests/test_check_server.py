"""`pivotrl check-server` finds what is wrong with a server, each fault by its own check.

Run alone: python -m pytest tests/test_check_server.py
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx", reason="needs the extra 'judge'")

from fault_server import FaultServer
from pivotrl.cli import main
from pivotrl.records import Sampling
from pivotrl.rendering import Renderer
from pivotrl.samplers.openai import Sampler
from pivotrl.samplers.openai.checking import check_server
from pivotrl.samplers.openai.probing import asked
from test_endpoint import direct as direct
from test_openai_sampler import folder as folder
from test_openai_sampler import renderer as renderer


def checks(
    capsys: pytest.CaptureFixture[str], server: FaultServer, folder: Path | None, model: str = "m", *more: str
) -> Any:
    """(check -> status, exit code)"""
    code = 0
    tokenizer = ["--tokenizer", str(folder)] if folder else []
    try:
        main(["check-server", server.url, "--model", model, "--json", "--deadline-seconds", "5", *tokenizer, *more])
    except SystemExit as error:
        code = int(error.code or 0)
    told = json.loads(capsys.readouterr().out)
    assert told["is_fit"] == (code == 0)
    return {check["name"]: check["status"] for check in told["checks"]}, code


def tiny(renderer: Renderer, **options: Any) -> FaultServer:
    return FaultServer(encode=renderer.encode_text, end_id=renderer.end_id, **options)


def test_a_good_server_is_fit(folder: Path, renderer: Renderer, capsys: pytest.CaptureFixture[str]) -> None:
    with tiny(renderer) as server:
        found, code = checks(capsys, server, folder)
    assert code == 0 and len(found) >= 15
    assert {name for name, status in found.items() if status != "ok"} <= {"seed repeats", "latency", "tool calls"}


@pytest.mark.parametrize(
    ("fault", "check", "status"),
    [
        ("drift", "prompt", "fault"),
        ("fixed_seed", "samples of several seeds", "fault"),
        ("token_lost", "token ids out", "fault"),
        ("text_of_another", "token ids out", "fault"),
        ("truncated", "answers", "fault"),
        ("refused_400", "answers", "fault"),
        ("no_choices", "answers", "fault"),
        ("error_as_200", "answers", "fault"),
        ("n_ignored", "n", "warning"),
        ("short", "answers", "fault"),
        ("logprobs_null", "log-probs", "warning"),
        ("logprobs_nan", "log-probs", "warning"),
        ("logprobs_positive", "log-probs", "warning"),
        ("logprobs_short", "log-probs", "warning"),
    ],
)
def test_a_fault_is_seen_by_its_check(
    folder: Path, renderer: Renderer, capsys: pytest.CaptureFixture[str], fault: str, check: str, status: str
) -> None:
    options: dict[str, Any] = {fault: True} if fault in ("drift", "fixed_seed") else {"faults": [fault], "rate": 1.0}
    with tiny(renderer, **options) as server:
        found, code = checks(capsys, server, folder)
    assert found[check] == status and code == (2 if status == "fault" else 0)


def test_what_does_not_answer_or_serves_another_model_is_not_fit(
    folder: Path, renderer: Renderer, capsys: pytest.CaptureFixture[str]
) -> None:
    with tiny(renderer) as server:
        assert checks(capsys, server, folder, model="gpt") == ({"reachable": "ok", "models": "fault"}, 2)
    assert checks(capsys, server, folder)[1] == 2  # it is gone


def test_messages_are_checked_without_a_tokenizer(capsys: pytest.CaptureFixture[str]) -> None:
    with FaultServer(lists_models=False) as server:
        found, code = checks(capsys, server, None)
    assert code == 0 and found["models"] == found["token ids"] == "warning" and found["text"] == "ok"


def test_the_table_ends_with_the_verdict(folder: Path, renderer: Renderer, capsys: pytest.CaptureFixture[str]) -> None:
    with tiny(renderer) as server:
        main(["check-server", server.url, "--model", "m", "--tokenizer", str(folder)])
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0].split() == ["check", "result", "meaning"] and lines[-1].startswith("the server is fit")


def test_processed_logprobs_are_told_from_raw_ones(
    folder: Path, renderer: Renderer, capsys: pytest.CaptureFixture[str]
) -> None:
    with tiny(renderer) as raw, tiny(renderer, is_processed=True) as processed:
        assert checks(capsys, raw, folder)[0]["log-prob mode"] == "ok"
        assert checks(capsys, processed, folder)[0]["log-prob mode"] == "warning"


def test_logprobs_of_another_distribution_are_unknown(folder: Path, renderer: Renderer) -> None:
    turn = asked("Hello")
    with tiny(renderer) as server:
        for temperature, mode, is_known in ((1.0, "raw", True), (0.7, "raw", False), (0.7, "processed", True)):
            sampler = Sampler(base_url=server.url, model="m", tokenizer=str(folder), logprobs=mode)
            (group,) = sampler.sample([turn], 1, Sampling(temperature=temperature, max_tokens=64))
            values = group.completions_G[0].logprobs_T
            assert values and all(math.isnan(value) != is_known for value in values)


def call_message(name: str) -> Any:
    call = {"id": "c", "type": "function", "function": {"name": name, "arguments": '{"city": "Oslo"}'}}
    return lambda text: {"role": "assistant", "content": None, "tool_calls": [call]}


def hermes_text(text: str) -> dict[str, Any]:
    called = json.dumps({"name": "get_weather", "arguments": {"city": "Oslo"}})
    return {"role": "assistant", "content": f"<tool_call>\n{called}\n</tool_call>"}


@pytest.mark.parametrize(
    ("options", "status", "told"),
    [
        ({"message": call_message("get_weather")}, "ok", "its tool parser finds"),
        ({"message": call_message("weather")}, "warning", "not offered"),
        ({"message": hermes_text}, "warning", "leaves calls in the text"),
        ({}, "warning", "holds no call"),
        ({"refuses": ("tools",)}, "fault", "--tool-call-parser"),
    ],
)
def test_the_tool_parser_is_tried(options: dict[str, Any], status: str, told: str) -> None:
    with FaultServer(**options) as server:
        found = {finding.name: finding for finding in check_server(Sampler(base_url=server.url, model="m"))}
    assert found["tool calls"].status == status and told in found["tool calls"].meaning


@pytest.mark.parametrize(
    ("adapters", "faulty"),
    [
        ("well", None),
        ("unlisted", "adapter loads"),
        ("unused", "adapter acts"),
        ("kept", "adapter is released"),
        (None, "adapter loads"),
    ],
)
def test_an_adapter_is_loaded_used_and_released(
    folder: Path, renderer: Renderer, capsys: pytest.CaptureFixture[str], adapters: str | None, faulty: str | None
) -> None:
    with tiny(renderer, adapters=adapters) as server:
        found, code = checks(capsys, server, folder, "m", "--lora", "/adapters/a")
    told = {name: status for name, status in found.items() if name.startswith("adapter")}
    assert [name for name, status in told.items() if status == "fault"] == ([faulty] if faulty else [])
    assert code == (2 if faulty else 0) and len(told) == (1 if adapters is None else 3)
    assert not server.loaded or adapters == "kept", "what was loaded for the check is unloaded"
