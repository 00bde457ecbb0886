"""What an import says to do next: the verifier made for each kind of turn, in a command line that can be pasted.

Run alone: python -m pytest tests/test_next_step.py
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from pivotrl.cli import main
from pivotrl.judging.suggestion import combined
from pivotrl.plugins import load

DATA = Path(__file__).parent / "data"


def imported(source: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    try:
        main(["read", str(source), "-o", str(out), "--min-reward", "None", "--heldout-fraction", "0"])
    except SystemExit as stopped:
        assert stopped.code == 5  # a folder of samples has a page about them
    return capsys.readouterr().out


def said(told: str) -> list[str]:
    command = next(line for line in told.splitlines() if line.startswith("next: ")).removeprefix("next: ")
    return shlex.split(command)


def rows(path: Path, *answers: dict[str, Any]) -> Path:
    asked = {"role": "user", "content": "How much is 6 times 7, and what is the weather?"}
    lines = [
        {"messages": [asked, {"role": "assistant", **answer}], "task_id": str(number)}
        for number, answer in enumerate(answers)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize(
    "source, verifier, kinds",
    [
        ("tau_bench/gpt-4o-airline.json", "tool_call", {"messages", "calls"}),
        ("formats/mini_swe_agent", "command", {"commands"}),
        (
            "formats/openhands_events",
            "first_decisive(verifiers=('command', 'edit', 'tool_call'))",
            {"commands", "calls", "edits"},
        ),
    ],
)
def test_the_next_command_names_the_verifier_made_for_the_log_and_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, verifier: str, kinds: set[str]
) -> None:
    out = tmp_path / "a run"
    told = imported(DATA / source, out, capsys)
    assert {line.split()[0] for line in told.splitlines() if line.split()} >= kinds
    words = said(told)
    assert words == ["pivotrl", "check", str(out), "--verifier", verifier]
    main([*words[1:], "--check-turns", "4"])
    assert any(line.startswith(("sound:", "too few")) for line in capsys.readouterr().out.splitlines())


def test_answers_beside_calls_get_both_verifiers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = {"type": "function", "id": "1", "function": {"name": "get_weather", "arguments": "{}"}}
    log = rows(tmp_path / "log.jsonl", {"content": "Answer: 42"}, {"content": None, "tool_calls": [call]})
    words = said(imported(log, tmp_path / "run", capsys))
    assert words[-1] == "first_decisive(verifiers=(\"answer(extraction=('boxed', 'answer_line'))\", 'tool_call'))"
    main([*words[1:], "--json"])
    assert json.loads(capsys.readouterr().out)["accepts_expected"]["count"] == 2


def test_moves_get_no_verifier_made_for_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "move: from [I1] to [A1]"}]}
    (tmp_path / "log.jsonl").write_text(json.dumps(row) + "\n")
    told = imported(tmp_path / "log.jsonl", tmp_path / "run", capsys)
    assert "a verifier of your own" in told and said(told)[-1] == "exact"


def test_combinations_can_be_loaded() -> None:
    for names in (["answer", "edit"], ["plancraft", "tool_call"], ["command", "answer"]):
        load("verifiers", combined(names))
    assert combined([]) == "" and combined(["", "edit"]).count("'") == 6
