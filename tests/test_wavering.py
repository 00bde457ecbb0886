"""Where the agent wavers, and how far a run is; and the commands of docs/profiling.md, as a user would give them.

Run alone: python -m pytest tests/test_wavering.py
"""

from __future__ import annotations

import json
import re
import shlex
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pivotrl.intervals import clustered_mean, wilson
from pivotrl.records import Message, Trajectory
from pivotrl.report.wavering import TurnOutcome, in_order, places_of, turn_outcomes, wavering
from pivotrl.runs.files import RunFiles
from pivotrl.runs.lock import RunLock
from pivotrl.runs.status import status_of
from pivotrl.stages.judging import profile_samples_stage
from pivotrl.verifiers.exact import verify as exact
from test_cli import call, refused
from test_documented_game import execute
from test_samples_elsewhere import Interrupts, run, samples_of, turns_of

__all__ = ["run"]
PAGE = (Path(__file__).parents[1] / "docs" / "profiling.md").read_text()


def outcome(name: str, rewards: list[float], **facts: Any) -> TurnOutcome:
    mean = sum(rewards) / len(rewards) if rewards else None
    known: dict[str, Any] = {
        "turn_id": name,
        "task_id": name,
        "tool": "look",
        "depth": 1,
        "num_samples": 4,
        "num_scored": len(rewards),
        "pass_rate": mean,
        "variance": None if mean is None else sum((r - mean) ** 2 for r in rewards) / len(rewards),
        "wavers": len(set(rewards)) > 1 if rewards else None,
        "reasons": {},
        "wrong": {},
    }
    return TurnOutcome(**{**known, **facts})


def test_pinned_examples_are_no_turns_of_the_agent() -> None:
    messages = tuple(Message(role=role, content="x") for _ in range(4) for role in ("user", "assistant"))
    log = Trajectory(id="a", task_id="a", messages=messages, pinned_messages=4)
    assert places_of(log) == {5: 1, 7: 2}


def test_parts_count_turns_and_never_take_the_unknown_for_zero() -> None:
    turns = [
        outcome("a", [1, 0, 1, 0], reasons={"wrong_tool": 2}, wrong={"run()": 2}),
        outcome("b", [1, 1, 1, 1], depth=2),
        outcome("c", [0, 0, 0, 0], tool="take", depth=4, reasons={"wrong_tool": 3, "cut": 1}, wrong={"run()": 4}),
        outcome("d", [], depth=9, reasons={"no verdict: verifier_timeout": 4}),
    ]
    found = wavering(turns)
    assert [(part.name, part.num_turns, part.num_scored_turns) for part in found.by_tool] == [
        ("look", 3, 2),
        ("take", 1, 1),
    ]
    look = found.by_tool[0]
    assert look.wavering is not None and look.wavering.mean == 0.5
    assert (look.wavering.low, look.wavering.high) == wilson(1, 2)  # single turns of two tasks
    assert look.pass_rate is not None and look.pass_rate.mean == 0.75 and look.variance == 0.125
    assert [part.name for part in found.by_depth] == ["1", "2", "3-4", "9-16"]
    assert found.by_depth[-1].wavering is None and found.by_depth[-1].pass_rate is None
    assert found.total.wavering == clustered_mean([1.0, 0.0, 0.0], ["a", "b", "c"])
    told = {failure.name: (failure.num_samples, failure.num_turns, failure.example) for failure in found.by_reason}
    assert told == {"wrong_tool": (5, 2, "c"), "no verdict: verifier_timeout": (4, 1, "d"), "cut": (1, 1, "c")}
    (wrong,) = found.by_wrong_action
    assert (wrong.name, wrong.num_samples, wrong.num_turns, wrong.share.mean) == ("run()", 6, 2, 0.5)
    assert (wrong.share.low, wrong.share.high) == wilson(2, 4)


def test_the_order_puts_the_unknown_last() -> None:
    turns = [outcome("d", [], depth=2), outcome("a", [0, 0], depth=3), outcome("b", [1, 0], depth=1)]
    assert [o.turn_id for o in in_order(turns, "variance")] == ["b", "a", "d"]
    assert [o.turn_id for o in in_order(turns, "pass-rate")] == ["a", "b", "d"]
    assert [o.turn_id for o in in_order(turns, "depth")] == ["b", "d", "a"]


def test_the_report_finds_the_wrong_actions_of_the_samples(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("profile", run, "--samples", samples_of(run), "--verifier", "exact") == 0
    groups = {group.turn_id: group for group in RunFiles(run).profiles()}
    outcomes = {found.turn_id: found for found in turn_outcomes(RunFiles(run))}
    assert outcomes.keys() == groups.keys()
    for name, found in outcomes.items():
        assert found.variance == groups[name].variance and found.pass_rate == groups[name].mean
        assert sum(found.wrong.values()) == 4 - sum(groups[name].rewards)
    assert {found.depth for found in outcomes.values()} == {1, 2, 3}
    capsys.readouterr()
    assert call("waver", run, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    number = len(groups)
    assert found["total"]["num_turns"] == number and found["by_tool"][0]["name"] == "(message)"
    assert {each["name"] for each in found["by_wrong_action"]} == {"wrong 0", "wrong 1"}
    assert sum(each["num_samples"] for each in found["by_wrong_action"]) == sum(
        v.outcome == "fail" for group in groups.values() for v in group.verdicts_G
    )
    for each in found["by_reason"]:
        assert each["share"]["low"] <= each["share"]["mean"] <= each["share"]["high"]
    assert call("waver", run) == 0
    told = capsys.readouterr().out
    assert "(message)" in told and "wrong 1" in told and "different_text" in told


def test_show_lists_turns_in_an_order_of_choice(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "run `pivotrl profile" in refused(capsys, 2, "show", run, "--sort", "variance", "--all")
    assert call("profile", run, "--samples", samples_of(run), "--verifier", "exact") == 0
    assert "select.manifest.json" in refused(capsys, 2, "show", run, "--sort", "variance")
    assert call("select", run) == 0
    capsys.readouterr()
    assert call("show", run, "--sort", "variance", "--all", "--json") == 0
    every = json.loads(capsys.readouterr().out)
    variances = [row["variance"] for row in every]
    assert len(every) == len(turns_of(run)) and variances == sorted(variances, reverse=True)
    assert call("show", run, "--sort", "pass-rate", "--json") == 0
    pivots = json.loads(capsys.readouterr().out)
    assert {row["turn_id"] for row in pivots} == {row["turn_id"] for row in every if row["selected"]}
    assert 0 < len(pivots) < len(every)
    assert call("show", run, "--sort", "depth", "--all") == 0
    assert every[0]["turn_id"] in capsys.readouterr().out
    assert "leave one out" in refused(capsys, 2, "show", run, every[0]["turn_id"], "--all")
    assert call("show", run, every[0]["turn_id"], "--json") == 0
    turn = json.loads(capsys.readouterr().out)
    assert turn["turn_id"] == every[0]["turn_id"] and turn["context"] and turn["expected_action"]
    assert len(turn["samples"]) == every[0]["num_samples"]
    assert "leave one out" in refused(capsys, 2, "show", run, "--all", "--selection", "x")


# --- status -------------------------------------------------------------------------------------------------------


def told_status(run: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert call("status", run, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    found["states"] = {stage["stage"]: stage["state"] for stage in found["stages"]}
    return found


def test_status_leads_through_a_run_command_by_command(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"check": [], "profile": ["--policy", "tabular", "--num-samples", "4"]}
    training = ["--num-steps", "2", "--turns-per-step", "2", "--group-size", "2", "--learning-rate", "1"]
    done, states = [], []
    while True:
        found = told_status(run, capsys)
        words = shlex.split(found["next"]["command"])
        done.append(words[1])
        states.append(found["states"])
        if words[1] == "report":
            break
        assert call(*words[1:], *given.get(words[1], training if words[1] == "train" else [])) == 0, words
        assert len(done) < 10
    assert done == ["check", "profile", "select", "evaluate", "train", "evaluate", "report"]
    assert states[0]["profile"] == "not begun" and set(states[-1].values()) == {"done"}
    by_name = {stage["stage"]: stage for stage in found["stages"]}
    groups = RunFiles(run).profiles()
    assert by_name["profile"]["rollout_turns"] == sum(len(group.completions_G) for group in groups)
    assert by_name["profile"]["tokens"] == sum(len(c.token_ids_T) for group in groups for c in group.completions_G)
    assert by_name["train"]["tokens"] == 2 * 2 * 2
    assert found["total"]["rollout_turns"] == sum(stage["rollout_turns"] for stage in found["stages"])


def test_status_says_what_runs_what_stopped_and_what_is_unknown(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        profile_samples_stage(run, [samples_of(run)], verifier=exact, observer=Interrupts())
    found = told_status(run, capsys)
    assert found["states"]["profile"] == "stopped" and found["next"]["command"] == f"pivotrl profile {run}"
    rows = len(RunFiles(run).profiled())
    (stage,) = (stage for stage in found["stages"] if stage["stage"] == "profile")
    assert stage["counts"] == {"profiles.jsonl": rows} and stage["rollout_turns"] == 4 * rows
    assert stage["tokens"] is None and found["total"]["tokens"] is None  # texts have no known number of tokens
    with RunLock(run):
        found = told_status(run, capsys)
        assert found["states"]["profile"] == "running" and found["next"]["command"] == ""
    assert call(*shlex.split(f"profile {run}")) == 0
    assert told_status(run, capsys)["states"]["profile"] == "done"
    assert call("status", run) == 0
    told = capsys.readouterr().out
    assert "unknown" in told and f"pivotrl select {run}" in told
    (run / "profile.manifest.json").write_text("{}")
    damaged = {stage.stage: stage for stage in status_of(run).stages}["profile"]
    assert damaged.state == "damaged" and "profile.manifest.json" in damaged.fault
    assert call("status", run) == 0


def test_a_whole_run_that_stopped_goes_on_with_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from test_pipeline import write_logs

    logs, out = write_logs(tmp_path / "logs.jsonl"), tmp_path / "run"
    options = ["--policy", "tabular", "--verifier", "exact", "--num-samples", "4", "--num-steps", "1"]
    assert call("run", logs, "-o", out, *options, "--max-mean", "0") == 3  # no pivot at all
    assert told_status(out, capsys)["next"]["command"] == f"pivotrl waver {out}"
    assert call("run", logs, "-o", out, *options, "--overwrite") == 0
    (out / "train.manifest.json").unlink()
    assert told_status(out, capsys)["next"]["command"] == f"pivotrl run -o {out} --resume"


# --- the page -----------------------------------------------------------------------------------------------------


class Chat(BaseHTTPRequestHandler):
    """An OpenAI-compatible server that knows every answer but one."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/chat/completions" and "tools" not in asked and asked["max_tokens"] == 256
        right = asked["messages"][-1]["content"].replace("q", "answer ")
        said = [right if number else "I do not know." for number in range(asked["n"])]
        choices = [
            {"index": i, "finish_reason": "stop", "message": {"role": "assistant", "content": text, "refusal": None}}
            for i, text in enumerate(said)
        ]
        body = json.dumps({"choices": choices}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Chat) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}/v1"
        found.shutdown()


def cheaply(command: str) -> None:
    """A command that samples a model, in a run of its own, with a table in place of the model."""
    if not Path("runs/few").exists():
        assert call("read", "logs.jsonl", "-o", "runs/few") == 0
    given = [*shlex.split(command.replace("runs/mine", "runs/few")), "--policy", "tabular", "--verifier", "exact"]
    given += ["--num-steps", "2", "--turns-per-step", "4"] if given[0] == "train" else []
    assert call(*given) == 0


def test_the_commands_of_the_page_work_in_order(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    from test_pipeline import write_logs

    monkeypatch.chdir(tmp_path)
    write_logs(tmp_path / "logs.jsonl", 6)
    parts = re.split(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(parts) == 3
    for number, part in enumerate(parts):
        if number == 1:
            (tmp_path / "sample.py").write_text(part)
            sampled = execute(tmp_path, sys.executable, "sample.py", server, "the-model")
            assert sampled.returncode == 0, sampled.stderr
            continue
        for command in re.findall(r"^    pivotrl (.*)$", part, re.MULTILINE):
            if "--adaptive" in command or "--method lazy" in command:
                cheaply(command)
                continue
            assert call(*shlex.split(command)) == 0, (command, capsys.readouterr().err)
    told = capsys.readouterr().out
    assert "I do not know." in told and "judged" not in told
    (manifest,) = (tmp_path / "runs" / "mine").glob("profile.manifest.json")
    options = json.loads(manifest.read_text())
    assert options["options"]["judge_again"] and options["policy"]["made_by"] == "the-model"
