"""`pivotrl check-server` finds what is wrong with a server, each fault by its own check.

Run alone: python -m pytest tests/test_check_server.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx", reason="needs the extra 'judge'")

from fault_server import FaultServer
from pivotrl.cli import main
from pivotrl.rendering import Renderer
from test_endpoint import direct as direct
from test_openai_sampler import folder as folder
from test_openai_sampler import renderer as renderer


def checks(capsys: pytest.CaptureFixture[str], server: FaultServer, folder: Path | None, model: str = "m") -> Any:
    """(check -> status, exit code)"""
    code = 0
    tokenizer = ["--tokenizer", str(folder)] if folder else []
    try:
        main(["check-server", server.url, "--model", model, "--json", "--deadline-seconds", "5", *tokenizer])
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
    assert code == 0 and len(found) >= 13
    assert {name for name, status in found.items() if status != "ok"} <= {"seed repeats", "latency"}


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
